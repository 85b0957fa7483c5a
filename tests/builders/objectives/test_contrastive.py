import pytest

from medvlp.builders import build_objective
from medvlp.config import ConfigError, compose
from medvlp.data.pairs import PairPipeline
from medvlp.data.texts import FieldTexts
from medvlp.errors import UserError
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
    assert objective.pipeline.prepare.texts == [FieldTexts(("caption*",))]


def test_an_assistant_is_no_clip(llava_words):
    with pytest.raises(ConfigError, match="objective=contrastive trains a CLIP model"):
        build_objective(
            compose("train", [*llava_words[:1], "objective=contrastive", *llava_words[2:5], "trainer.max_steps=1"])
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["objective.auxiliary.captioning.weight=1"], "trains the decoder of a CoCa"),
        (["objective.auxiliary.masked_language.weight=1"], "reads in both directions"),
        (["objective.auxiliary.distillation.teacher=api:http://x/v1#y"], "expected a CLIP model"),
        (
            ["objective.heads.a.label=kind", "objective.heads.a.classes=[k0,k1]", "objective.heads.a.balanced=true"],
            "balanced",
        ),
        (["objective.positives_as=mask"], "no effect without objective.positives"),
        (["objective.loss=sigmoid", "objective.same_text=mil_nce"], "with objective.loss=sigmoid, objective.same_text"),
        (
            ["objective.loss=sigmoid", "objective.positives=group", "objective.positives_as=inside"],
            "objective.positives_as='inside' is not a choice",
        ),
        (["objective.positives=kind"], "expected sample, group, label.<name> or metadata.<name>"),
    ],
)
def test_what_does_not_suit_the_loss_or_the_model_is_refused(clip_words, words, message):
    with pytest.raises(UserError) as caught:
        build_objective(compose("train", [*clip_words, *words]))
    assert message in str(caught.value)


def test_a_sigmoid_loss_starts_the_bias_of_a_model_that_has_none(clip_words):
    objective = build_objective(
        compose("train", [*clip_words, "objective.loss=sigmoid", "objective.options.start_bias=-7"])
    )
    model = objective.module.model
    assert (float(model.logit_bias), float(model.logit_scale.exp())) == (-7.0, pytest.approx(10.0))
    assert model.logit_bias.requires_grad
    assert objective.metadata["model_cfg"]["init_logit_bias"] == -7.0


def test_terms_are_built_by_name(clip_words):
    words = ["objective.heads.a.label=kind", "objective.heads.a.classes=[k0,k1,k2,k3]", "objective.heads.a.weight=0.5"]
    teacher = f"objective.auxiliary.distillation.teacher=open_clip:{clip_words[1].removeprefix('model.name=')}"
    objective = build_objective(compose("train", [*clip_words, *words, teacher, "objective.weight=0.5"]))
    assert list(objective.module.terms) == ["distillation", "head_a"]
    assert [term.weight for term in objective.module.terms.values()] == [1.0, 0.5]
    assert objective.module.weight == 0.5
    assert [type(extra).__name__ for extra in objective.pipeline.prepare.extras] == ["TeacherTokens", "PairLabels"]
