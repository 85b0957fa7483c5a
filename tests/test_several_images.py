"""Training on samples of several images, over whole runs: ranks, parts, resume and evaluation."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from medvlp.builders import load_clip
from medvlp.builders.schemes.checkpoint import CheckpointModel
from medvlp.config import EvalConfig
from medvlp.config.model_names import parse_model_name
from medvlp.data.images.decode import decode_image
from medvlp.shards import ShardDataset
from medvlp.verbs.models.export import main as export
from tests.datasets import jpeg, pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import finish, losses, rows, run_here, start, tiny_words, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("several")
    samples = [
        replace(pair, images={f"{n}.jpg": jpeg(100 * row + n) for n in range(row % 3 + 1)}) if row % 3 else pair
        for row, pair in enumerate(pairs(24))
    ]
    write_split(made / "made" / "train", samples)
    tiny_architecture(made)
    return made


def words(folder, name, way, *more):
    return [
        *tiny_words(folder),
        f"data.sources.made.several_images={way}",
        f"run_name={name}",
        "trainer.max_steps=4",
        "optim.schedule=constant",
        *more,
    ]


def attention(folder, name, *more):
    return words(folder, name, "all", "data.sources.made.max_images=2", "model.image_pool=attention", *more)


def test_a_checkpoint_embeds_studies_as_it_was_trained(folder, capsys):
    assert run_here(attention(folder, "pooled", "optim.lr=0.05")) == 0
    path = folder / "runs/pooled/checkpoints/last.ckpt"
    pool = load_clip(path).clip.image_pool
    assert pool.logit.abs().max() > 0
    dataset = ShardDataset(folder / "made/train")
    model = CheckpointModel(parse_model_name(str(path))).open("cpu", EvalConfig(batch_size=5, workers=0))
    embeddings_ND = model.images(dataset).embeddings_ND
    clip = load_clip(path).clip
    for row in range(6):
        sample = dataset.read(row)
        with torch.no_grad():
            pixels = torch.stack(
                [clip.transform(decode_image(sample.images[name], 10**6)) for name in sorted(sample.images)]
            )
            unit_ND = normalize(clip.model.encode_image(pixels), dim=-1)
            share_N = torch.softmax(torch.tanh(pool.hidden(unit_ND)) @ pool.logit, dim=0)
        assert torch.allclose(embeddings_ND[row], normalize(share_N @ unit_ND, dim=-1), atol=1e-5)
    assert run_here(words(folder, "refused", "each")) == 1
    assert "several_images=each gives pairs of one text" in capsys.readouterr().err
    exported = folder / "exported"
    assert export([f"checkpoint={path}", "format=open_clip", f"output={exported}"]) == 0
    card = (exported / "README.md").read_text()
    assert "Samples of made are one example each, with all their images (`model.image_pool=attention`)." in card
    assert "The layer that weighs them is not in this folder" in card


@pytest.mark.slow
def test_parts_and_ranks_change_nothing_and_a_resume_goes_on_to_the_bit(folder):
    double = "trainer.precision=64-true"
    assert run_here(attention(folder, "whole", double)) == 0
    assert run_here(attention(folder, "parts", double, "trainer.accumulate=2")) == 0
    code, output = finish(start(attention(folder, "ranks", double), ranks=2))
    assert code == 0, output
    expected = losses(folder / "runs/whole")
    for name in ("parts", "ranks"):
        assert losses(folder / "runs" / name) == pytest.approx(expected, rel=1e-9)
    assert run_here(words(folder, "mean", "all", double, "data.sources.made.max_images=2")) == 0
    assert losses(folder / "runs/mean")[0] == pytest.approx(expected[0], rel=1e-9)  # attention begins with the mean
    assert losses(folder / "runs/mean")[-1] != pytest.approx(expected[-1], rel=1e-7)
    for name, way in (("pool", attention), ("single", lambda *more: words(*more[:2], "one", *more[2:]))):
        assert run_here(way(folder, f"{name}-whole", "trainer.max_steps=6")) == 0
        assert run_here(way(folder, f"{name}-resumed", "trainer.max_steps=3")) == 0
        assert run_here(way(folder, f"{name}-resumed", "trainer.max_steps=6", "resume=auto")) == 0
        runs = [folder / "runs" / f"{name}-{part}" for part in ("whole", "resumed")]
        first, second = map(weights, runs)
        assert all(torch.equal(value, second[key]) for key, value in first.items())
        auxiliary = [torch.load(run / "checkpoints/last.ckpt", weights_only=True).get("auxiliary", {}) for run in runs]
        assert all(torch.equal(value, auxiliary[1][key]) for key, value in auxiliary[0].items())
        assert bool(auxiliary[0]) == (name == "pool")


@pytest.mark.slow
def test_images_of_one_sample_are_right_for_its_texts(folder):
    each = ["data.global_batch_size=24", "trainer.max_steps=2", "objective.positives=sample"]
    assert run_here(words(folder, "inside", "each", *each, "objective.positives_as=inside")) == 0
    assert run_here(words(folder, "target", "each", *each)) == 0
    assert run_here(words(folder, "sigmoid", "each", *each, "objective.loss=sigmoid")) == 0
    row = next(row for row in rows(folder / "runs/inside/metrics.jsonl") if row["split"] == "train")
    assert row["positives"] > 0.2
    keys = [key for step in rows(folder / "runs/inside/samples.jsonl") for key in step["keys"]]
    assert any(key.endswith("#2") for key in keys)
    assert len(set(keys)) == len(keys) == 48  # every image once an epoch
    assert abs(losses(folder / "runs/inside")[0] - losses(folder / "runs/target")[0]) > 1e-3
