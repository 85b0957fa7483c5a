"""Distillation from a teacher's features in a folder: they are the teacher's own, and are refused where they are not."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from medvlp.builders import build_data, build_objective
from medvlp.builders.clip import clip_named
from medvlp.config import compose
from medvlp.config.model_names import parse_model_name
from medvlp.data.images.decode import decode_image
from medvlp.data.plan import RankSchedule
from medvlp.shards import ShardDataset
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import equal, losses, run_here, tiny_words, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("stored")
    samples = [replace(s, texts={**s.texts, "caption_1": f"{s.texts['caption']} once more"}) for s in pairs(20)]
    write_split(made / "made/train", samples)
    tiny_architecture(made)
    assert run_here([*tiny_words(made), "run_name=teacher", "seed=5", "trainer.max_steps=1"]) == 0
    return made


def words_of(folder, **changes):
    keys = {"teacher": f"{folder}/runs/teacher", "on": "features", "feature_cache": f"{folder}/cache", **changes}
    options = [f"objective.auxiliary.distillation.{key}={value}" for key, value in keys.items()]
    return [
        *tiny_words(folder),
        *options,
        "data.global_batch_size=4",
        "trainer.max_steps=4",
        "trainer.checkpoint_every=2",
    ]


def first_batch(words):
    objective = build_objective(compose("train", words))
    data = build_data(compose("train", words), objective.pipeline)
    data.prepare_data()
    data.setup()
    units = [data.samples[request] for request in next(RankSchedule(data.plan, 4).requests(0, 1))]
    return objective.module, data.pipeline.collate(units)


@pytest.mark.parametrize("on", ["features", "logits"])
def test_what_is_stored_is_what_the_teacher_gives(folder, on):
    words = words_of(folder, on=on)
    module, batch = first_batch(words)
    live_module, live_batch = first_batch(words_of(folder, on=on, feature_cache=""))
    assert batch.keys == live_batch.keys
    clip, _ = clip_named(parse_model_name(f"{folder}/runs/teacher", "teacher"), "teacher")
    shards = ShardDataset(folder / "made/train")
    rows = {shards.key(row): row for row in range(len(shards))}
    images = [decode_image(shards.read(rows[key]).images["jpg"], 10**6) for key in batch.keys]
    with torch.no_grad():
        image_BD = normalize(clip.model.encode_image(torch.stack([clip.transform(image) for image in images])), dim=-1)
        text_BD = normalize(clip.model.encode_text(live_batch.teacher_tokens_BL), dim=-1)
    assert torch.allclose(batch.teacher_image_BD, image_BD, atol=1e-6)
    assert torch.allclose(batch.teacher_text_BD, text_BD, atol=1e-6)
    features = module.encode(batch)
    live = live_module.terms["distillation"].encode(None, live_batch, None)
    assert torch.allclose(features["teacher_text_BD"], live["teacher_text_BD"], atol=1e-6)
    exact = {**features, "teacher_image_BD": image_BD, "teacher_text_BD": live["teacher_text_BD"]}
    loss, expected = (module.loss_of(values, batch)[1]["loss_distillation"] for values in (features, exact))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_runs_go_on_from_what_is_stored_and_refuse_what_is_stale(folder, capsys):
    words = words_of(folder, feature_cache=f"{folder}/runs-cache")
    assert run_here([*words, "trainer.accumulate=2", "run_name=first"]) == 0
    assert capsys.readouterr().out.count("features of 20 samples are computed once") == 2
    resume = f"resume={folder}/runs/first/checkpoints/step-000002.ckpt"
    assert run_here([*words, "trainer.accumulate=2", "run_name=resumed", resume]) == 0
    assert "computed once" not in capsys.readouterr().out
    assert losses(folder / "runs/resumed") == losses(folder / "runs/first")[2:]
    assert equal(weights(folder / "runs/resumed"), weights(folder / "runs/first"))
    another = words_of(folder, feature_cache=f"{folder}/runs-cache", teacher=f"{folder}/runs/first")
    assert run_here([*another, "run_name=other"]) == 1
    assert "distillation.feature_cache: " in (said := capsys.readouterr().err)
    assert "features made with another teacher. Delete the folder" in said
    templates = "data.sources.made.text_templates={twice: '{caption} and {caption}'}"
    assert run_here([*words, "run_name=other", templates]) == 1
    assert "has a text that none was stored of" in capsys.readouterr().err
