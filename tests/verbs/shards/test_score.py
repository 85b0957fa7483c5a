"""`medvlp score`: what a table holds, how it goes on, and how conditions read it."""

import itertools
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from medvlp import process
from medvlp.builders.models import open_model
from medvlp.cli import main
from medvlp.combinations import ItemFilter
from medvlp.config import EvalConfig
from medvlp.config.model_names import parse_model_name
from medvlp.data.images.decode import decode_image
from medvlp.data.views.filtered import open_split
from medvlp.eval.scores import columns, parts
from medvlp.eval.scores.columns import quality_of
from medvlp.selection import Conditions
from medvlp.shards import Sample, ShardDataset, verify
from tests.assistants import tiny_clip_checkpoint
from tests.datasets import pairs, write_split
from tests.distributed.ranks import on_ranks

OPTIONS = ("workers=0", "batch_size=3", "accelerator=cpu", "part=4")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A checkpoint, and a split of nine samples: a damaged image, one without a caption, and a copy of the first."""
    folder = tmp_path_factory.mktemp("score")
    tiny_clip_checkpoint(folder)
    samples = pairs(8)
    samples[3].images["jpg"] = samples[3].images["jpg"][:200]
    samples[5].texts.clear()
    samples[6].texts["caption_1"] = "another caption"
    samples.append(Sample("made__copy", dict(samples[0].images), {"caption": "something else"}))
    return folder / "runs/clip/checkpoints/last.ckpt", write_split(folder / "train", samples, per_shard=4)


def test_scores_are_those_of_the_model_one_by_one(world, capsys):
    checkpoint, split = world
    command = ["score", str(split), f"checkpoint={checkpoint}", "duplicates=0.999", *OPTIONS]
    assert main(command) == 0
    assert "9 samples in" in capsys.readouterr().out
    table = pq.read_table(split / "scores/scores.parquet").to_pydict()

    dataset = ShardDataset(split)
    evaluation = EvalConfig(checkpoints=[str(checkpoint)], tasks=[])
    encoder = open_model(parse_model_name(str(checkpoint)), "cpu", evaluation).encoder
    assert table["key"] == dataset.keys
    for row in range(9):
        if row == 3:
            assert [values[row] for name, values in table.items() if name != "key"] == [None] * 6
            continue
        sample = dataset.read(row)
        image = decode_image(sample.images["jpg"], 10**6)
        assert table["entropy"][row] == pytest.approx(quality_of(image)["entropy"], rel=1e-6)
        with torch.no_grad():
            image_D = encoder.encode_image(encoder.transform(image)[None])[0]
            texts = list(sample.texts.values())
            expected = float((encoder.encode_text(texts) @ image_D).mean()) if texts else None
        assert table["similarity"][row] == (expected if expected is None else pytest.approx(expected, abs=1e-5))
    assert table["duplicate_rank"][0] == 0
    assert table["duplicate_rank"][8] >= 1
    stated = json.loads((split / "scores/scores.json").read_text())
    assert stated["manifest"] == dataset.manifest_hash
    assert stated["counts"] == {"samples": 9, "empty_caption": 1, "undecodable_image": 1}
    assert stated["columns"].keys() == set(table) - {"key"}
    assert not list(verify(split)), "the shards and their table are as they were"
    assert not (split / "scores/.scores.parts").exists()

    conditions = Conditions(("duplicate_rank = 0", "similarity is not missing"))
    selected = open_split(split, ItemFilter(), "s", conditions=conditions)
    rows = [n for n in range(9) if table["duplicate_rank"][n] == 0 and table["similarity"][n] is not None]
    assert selected.rows.tolist() == rows
    assert main(command) == 0  # it is there already, and no model is opened for it
    assert "is there already" in capsys.readouterr().out
    assert main([*command, "batch_size=2"]) == 1


def test_what_was_finished_before_a_stop_is_not_computed_again(world, tmp_path, monkeypatch, capsys):
    checkpoint, split = world
    score = ["score", str(split), f"checkpoint={checkpoint}", "duplicates=0.999", *OPTIONS]

    def table(name: str) -> list[bytes]:
        assert main([*score, f"out={tmp_path / name}"]) == 0
        return [(tmp_path / name / f"scores.{suffix}").read_bytes() for suffix in ("parquet", "json")]

    whole = table("whole")
    assert capsys.readouterr().out.count("part ") == 6, "three of columns, three of near-duplicates"
    stops = ((columns.Scorer, "part", 2), (parts, "earlier_duplicates", 1), (parts, "write_description", 0))
    for number, (owner, name, count) in enumerate(stops):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, after(count, getattr(owner, name)))
            assert main([*score, f"out={tmp_path}/{number}"]) == 70
        capsys.readouterr()
        assert main([*score, "batch_size=2", f"out={tmp_path}/{number}"]) == 1  # these are parts of another table
        assert "holds parts of another table" in capsys.readouterr().err
        assert table(str(number)) == whole
        assert capsys.readouterr().out.count("part ") == (4, 2, 0)[number]


def after(count: int, function: Any) -> Any:
    """A function that fails once it was called so often."""
    calls = itertools.count()

    def called(*args: Any) -> Any:
        if next(calls) == count:
            raise RuntimeError("stopped here")
        return function(*args)

    return called


def score_here(args: list[str]) -> int:
    """On a rank."""
    return process.command("score", lambda: main(args))


@pytest.mark.slow
def test_ranks_write_the_bytes_of_one_rank_and_fail_together(world, tmp_path):
    checkpoint, split = world
    score = ["score", str(split), f"checkpoint={checkpoint}", "duplicates=0.999", *OPTIONS]
    folder, folder_of_two = tmp_path / "one", tmp_path / "two"
    assert main([*score, f"out={folder}"]) == 0
    code, said = on_ranks(score_here, 2, [*score, f"out={folder_of_two}"])
    assert code == 0, said
    assert said.count("part ") == 6, said
    for name in ("scores.parquet", "scores.json"):
        assert (folder / name).read_bytes() == (folder_of_two / name).read_bytes()
    code, said = on_ranks(score_here, 2, [*score, "batch_size=2", f"out={folder_of_two}"])
    assert code == 1
    assert "is there already, of another model" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["duplicates=0.9"], "name a model"),
        (["duplicates=1.5", "checkpoint=x"], "a cosine of at most 1"),
        (["name=a.b"], "expected letters, digits and _"),
        (["text_fields=[]"], "text_fields is empty"),
    ],
)
def test_options_that_cannot_be_are_refused(world, options, message, capsys):
    assert main(["score", str(world[1]), *options]) == 1
    assert message in capsys.readouterr().err
