"""What a checkpoint was trained on, over all its stages."""

import pytest

from medvlp.builders import trained
from medvlp.builders.trained import training_splits
from medvlp.combinations import filter_of
from medvlp.config import as_dict, compose
from medvlp.shards import Sample, ShardDataset
from medvlp.training.checkpoints import CheckpointError
from tests.shards.folders import write_folder


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """Path → content, in the place of files; and three splits."""
    for name in ("first", "second", "changed"):
        write_folder(tmp_path / name / "train", [Sample(f"{name}__0", texts={"caption": name})])
    contents = {}

    def load(path):
        if str(path) not in contents:
            raise CheckpointError(f"checkpoint {path}: no such file")
        return contents[str(path)]

    monkeypatch.setattr(trained, "load_checkpoint", load)
    return contents


CLIP, CHAT = ["model=open_clip", "model.name=ViT-B-32"], ["model=llava", "objective=instruct"]


def content(sources, manifests=None, words=CLIP):
    state = [{"shards": manifests}] if manifests else []
    given = [*words, "run_name=x", "trainer.max_steps=1", *(f"data.sources.{n}.path={p}" for n, p in sources.items())]
    return {
        "medvlp": {"config": as_dict(compose("train", given))},
        "loops": {"fit_loop": {"state_dict": {"combined_loader": state}}},
    }


def test_earlier_stages_count_too(checkpoints, tmp_path):
    checkpoints["b.ckpt"] = content({"s": tmp_path / "second/train"}, words=[*CLIP, "init_from=a.ckpt"])
    checkpoints["a.ckpt"] = content(
        {"s": tmp_path / "first/train"}, words=[*CHAT, "model.vision.source=clip.ckpt", "init_from=odd.ckpt"]
    )
    checkpoints["odd.ckpt"] = {"medvlp": {"config": {"model": {"kind": "clip"}, "data": "x"}}}
    history = training_splits("b.ckpt")
    assert [split.folder.parent.name for split in history.splits] == ["second", "first"]
    assert history.unknown == [
        "what odd.ckpt was trained on, which does not say so",
        "what clip.ckpt was trained on, which is not here",
    ]


def test_a_model_of_others_that_a_run_began_with_is_said(checkpoints, tmp_path):
    checkpoints["a.ckpt"] = content({"s": tmp_path / "first/train"}, words=[*CLIP, "init_from=open_clip:RN50@openai"])
    assert training_splits("a.ckpt").unknown == ["what others trained open_clip:RN50@openai on"]


def test_what_is_gone_or_has_changed_is_said(checkpoints, tmp_path):
    hashes = {
        "kept": ShardDataset(tmp_path / "first/train").manifest_hash,
        "other": "0" * 64,
        "gone": "1" * 64,
    }
    paths = {"kept": tmp_path / "first/train", "other": tmp_path / "changed/train", "gone": tmp_path / "gone/train"}
    checkpoints["a.ckpt"] = content(paths, hashes)
    history = training_splits("a.ckpt")
    assert [split.folder for split in history.splits] == [tmp_path / "first/train"]
    assert history.unknown == [
        f"{tmp_path}/changed/train, which has changed since",
        f"{tmp_path}/gone/train, which is not here",
    ]


def test_the_checkpoint_itself_has_to_be_there(checkpoints):
    with pytest.raises(CheckpointError, match=r"none\.ckpt"):
        training_splits("none.ckpt")


def stating(config, folder, held_out, init_from=""):
    """The content of a checkpoint that was trained on sources (name → what its card states of them)."""
    paths = {name: config["data"]["sources"]["s"] | {"path": str(folder / name / "train")} for name in held_out}
    of_run = config | {"data": config["data"] | {"sources": paths}, "init_from": init_from}
    card = {"config": of_run, "held_out": {name: state for name, state in held_out.items() if state}}
    return {"medvlp": card, "loops": {}}


@pytest.fixture(scope="module")
def plain_config():
    return content({"s": "x"})["medvlp"]["config"]


NO_MRI = {"exclude": [{"modality": ["MRI"]}]}
ONLY_CT = {"only": [{"modality": ["CT"]}]}


@pytest.mark.parametrize(
    ("sources", "unseen", "notes"),
    [
        ({"a": NO_MRI}, ["modality=MRI"], []),
        ({"a": NO_MRI, "b": NO_MRI}, ["modality=MRI"], []),
        ({"a": NO_MRI, "b": {}}, ["modality=MRI"], []),  # b has none, though it does not state it
        ({"a": NO_MRI, "c": {}}, [], ["modality=MRI was held out of some data, but 2 items of {}/c/train are of it"]),
        (
            {"a": NO_MRI, "gone": {}},
            [],
            ["modality=MRI was held out of some data; whether {}/gone/train had it is not known"],
        ),
        ({"gone": NO_MRI}, ["modality=MRI"], []),
        ({"a": ONLY_CT | NO_MRI}, ["modality=MRI", "not modality=CT"], []),
        (
            {"a": ONLY_CT, "b": {}},
            [],
            ["not modality=CT was held out of some data, but 1 items of {}/b/train are of it"],
        ),
        ({"a": {}}, [], []),
        ({"a": "x"}, [], []),
    ],
)
def test_unseen_is_what_no_source_of_any_stage_has(checkpoints, plain_config, tmp_path, sources, unseen, notes):
    """Stated by the checkpoint; sources that do not state it are looked through."""
    modalities = {"a": ["CT"], "b": ["CT", "X-ray"], "c": ["CT", "MRI", "MRI"]}
    for name, values in modalities.items():
        samples = [Sample(f"{name}__{n}", texts={"caption": "x"}, labels={"modality": v}) for n, v in enumerate(values)]
        write_folder(tmp_path / name / "train", samples)
    first, *others = sources
    checkpoints["b.ckpt"] = stating(plain_config, tmp_path, {first: sources[first]}, "a.ckpt" if others else "")
    if others:
        checkpoints["a.ckpt"] = stating(plain_config, tmp_path, {name: sources[name] for name in others})
    history = training_splits("b.ckpt")
    assert [part.name for part in history.unseen] == unseen
    assert history.notes == [note.format(tmp_path) for note in notes]
    if sources == {"a": "x"}:
        assert history.unknown == [f"{tmp_path}/a/train, of which held out of a: 'x' is no mapping of only and exclude"]


def test_a_split_is_what_was_trained_on_of_it(checkpoints, tmp_path):
    samples = [
        Sample(f"a__{n}", texts={"caption": "x"}, labels={"modality": v}) for n, v in enumerate(["CT", "MRI", "CT"])
    ]
    write_folder(tmp_path / "a/train", samples)
    words = [*CLIP, "data.sources.s.exclude=[{modality:MRI}]"]
    checkpoints["a.ckpt"] = content({"s": tmp_path / "a/train"}, words=words)
    (split,) = training_splits("a.ckpt").splits
    assert split.keys == ["a__0", "a__2"]
    assert split.item_filter == filter_of(NO_MRI, "k")
