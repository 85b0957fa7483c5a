import pytest

from medvlp.builders import build_objective
from medvlp.config import ConfigError, compose
from medvlp.data.pairs import PairPipeline
from medvlp.losses.info_nce import InfoNCE
from medvlp.training.objectives.contrastive import Contrastive


def test_the_loss_the_batches_and_what_tasks_measure(clip_words):
    objective = build_objective(compose("train", [*clip_words, "objective.positives=label.kind"]))
    assert isinstance(objective.module, Contrastive)
    assert objective.module.loss_function == InfoNCE()
    assert isinstance(objective.pipeline, PairPipeline)
    assert (objective.pipeline.keeps_apart, objective.pipeline.prepare.positives) == (False, "label.kind")
    assert objective.evaluated("in training").offers == ("encode_image", "encode_text")


def test_equal_texts_are_kept_apart_where_that_is_chosen(clip_words):
    assert build_objective(compose("train", [*clip_words, "objective.same_text=apart"])).pipeline.keeps_apart


def test_building_reads_no_data(clip_words, tmp_path):
    objective = build_objective(compose("train", [*clip_words, f"data.sources.made.path={tmp_path}/absent"]))
    assert objective.pipeline.prepare.texts == [["caption*"]]


def test_an_assistant_is_no_clip(llava_words):
    with pytest.raises(ConfigError, match="objective=contrastive trains a CLIP model"):
        build_objective(
            compose("train", [*llava_words[:1], "objective=contrastive", *llava_words[2:5], "trainer.max_steps=1"])
        )
