"""What a checkpoint was trained on, over all its stages."""

import pytest

from medvlp.builders import trained
from medvlp.builders.trained import training_splits
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
    splits, unknown = training_splits("b.ckpt")
    assert [split.folder.parent.name for split in splits] == ["second", "first"]
    assert unknown == [
        "what odd.ckpt was trained on, which does not say so",
        "what clip.ckpt was trained on, which is not here",
    ]


def test_a_model_of_others_that_a_run_began_with_is_said(checkpoints, tmp_path):
    checkpoints["a.ckpt"] = content({"s": tmp_path / "first/train"}, words=[*CLIP, "init_from=open_clip:RN50@openai"])
    assert training_splits("a.ckpt")[1] == ["what others trained open_clip:RN50@openai on"]


def test_what_is_gone_or_has_changed_is_said(checkpoints, tmp_path):
    hashes = {
        "kept": ShardDataset(tmp_path / "first/train").manifest_hash,
        "other": "0" * 64,
        "gone": "1" * 64,
    }
    paths = {"kept": tmp_path / "first/train", "other": tmp_path / "changed/train", "gone": tmp_path / "gone/train"}
    checkpoints["a.ckpt"] = content(paths, hashes)
    splits, unknown = training_splits("a.ckpt")
    assert [split.folder for split in splits] == [tmp_path / "first/train"]
    assert unknown == [
        f"{tmp_path}/changed/train, which has changed since",
        f"{tmp_path}/gone/train, which is not here",
    ]


def test_the_checkpoint_itself_has_to_be_there(checkpoints):
    with pytest.raises(CheckpointError, match=r"none\.ckpt"):
        training_splits("none.ckpt")
