"""A task and a model fit where the model offers what the task needs."""

import pytest

from medvlp.builders.schemes.checkpoint import MODELS
from medvlp.builders.tasks import missing_capabilities, open_split, task_class, training_task
from medvlp.config import TASKS, ConfigError, RetrievalConfig, TrainConfig, VqaConfig, ZeroShotConfig
from medvlp.config.objectives.assistant import InstructConfig
from medvlp.config.objectives.contrastive import ContrastiveConfig
from medvlp.eval.task import CAPABILITIES


@pytest.mark.parametrize(
    ("kind", "config"), [("clip", ZeroShotConfig), ("clip", RetrievalConfig), ("llava", VqaConfig)]
)
def test_a_model_offers_what_its_own_tasks_need_and_not_what_others_do(kind, config):
    task = config(name="made", data="d")
    assert missing_capabilities(task, MODELS[kind].kind.offers) == []
    others = {name: model for name, model in MODELS.items() if name != kind}
    assert all(missing_capabilities(task, model.kind.offers) for model in others.values())


@pytest.mark.parametrize(
    ("answer_types", "is_used"), [([], True), (["multiple_choice", "open"], True), (["closed", "open"], False)]
)
def test_multiple_choice_uses_likelihoods_and_needs_none(answer_types, is_used):
    task = VqaConfig(name="made", data="d", answer_types=answer_types)
    assert missing_capabilities(task, ["generate"]) == []
    assert ("loglikelihood" in task_class("vqa").uses(task)) == is_used


def test_every_kind_can_be_measured_and_every_capability_has_its_words():
    for options, _ in TASKS.values():
        task = options(name="made", data="d")
        assert any(not missing_capabilities(task, model.kind.offers) for model in MODELS.values())
    assert {capability for model in MODELS.values() for capability in model.kind.offers} == set(CAPABILITIES)


@pytest.mark.parametrize(
    ("task", "objective", "offers", "message"),
    [
        (
            VqaConfig,
            ContrastiveConfig,
            MODELS["clip"].kind.offers,
            "needs answers, which objective=contrastive does not give",
        ),
        (
            RetrievalConfig,
            InstructConfig,
            MODELS["llava"].kind.offers,
            "needs embeddings, which objective=instruct does not",
        ),
        (RetrievalConfig, ContrastiveConfig, (), "needs embeddings, which objective=contrastive does not give"),
    ],
)
def test_a_run_refuses_tasks_that_need_what_it_does_not_train(task, objective, offers, message):
    config = TrainConfig(tasks=["made"], objective=objective())
    with pytest.raises(ConfigError, match=message):
        training_task(task(name="made", data="d"), config, offers)


@pytest.mark.parametrize(
    ("prep", "message"),
    [
        (
            [],
            r"d/test does not exist.*\nPrepare it with\n  medvlp prep source=<name> input=<the publisher's files> output=d$",
        ),
        (
            ["source=medmnist", "options.set=breastmnist"],
            r"d/test does not exist.*\nIt needs of .*: <set>.npz, such as breastmnist.npz.\nThey are at https://medmnist.com. "
            r"Prepare it with\n  medvlp prep source=medmnist options.set=breastmnist input=<the publisher's files> output=d$",
        ),
        (
            ["source=medmnisst"],
            r"task made: prep=\['source=medmnisst'\]: unknown source 'medmnisst'; did you mean 'medmnist'",
        ),
    ],
)
def test_absent_data_are_answered_with_files_page_and_command(tmp_path, monkeypatch, prep, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        open_split(VqaConfig(name="made", data="d", prep=prep), "test")
