"""Examples in front of prompts for written text: captions with their images, impressions behind the findings they sum up."""

from dataclasses import replace

import numpy as np
import pytest

from medvlp.config import WrittenTextConfig
from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.config.rules import ConfigError
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import TaskError
from medvlp.eval.task import TaskSettings
from medvlp.eval.text.task import WrittenText
from medvlp.shards import Sample, ShardDataset
from tests.datasets import jpeg, write_split
from tests.eval.prompting.worlds import Told


def report(split: str, number: int, group: str, findings: str, impression: str, images: int = 1) -> Sample:
    return Sample(
        f"{split}__{number}__0__0",
        {f"{index}.jpg": jpeg(number * 10 + index + (500 if split == "train" else 0)) for index in range(images)},
        texts={"findings": findings, "impression": impression},
        metadata={"group": group, "group_kind": "patient"},
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    write_split(
        folder / "train",
        [
            report("train", 0, "p0", "blunted costophrenic angle", "effusion", images=2),
            report("train", 1, "p1", "clear lungs", "normal film"),
            report("train", 2, "p2", "fracture of a rib", "rib fracture"),
        ],
    )
    write_split(
        folder / "test",
        [
            report("test", 0, "p1", "clear lungs throughout", "normal"),
            report("test", 1, "p9", "fracture of the clavicle", "clavicle fracture"),
        ],
    )
    return folder


def run(data, prompting, **options):
    config = WrittenTextConfig(
        name="made", data=str(data), references=["impression"], metrics=["rouge"], controls=[], **options
    )
    config.prompting = PromptingConfig(**prompting)
    config.check()
    settings = TaskSettings(bootstrap=Bootstrap(resamples=0), batch_size=2)
    model = Told(says=lambda prompt: "normal", samples=lambda prompt, number: "sampled")
    task = WrittenText.from_config(config, ShardDataset(data / "test"), settings)
    return task.run(model), model, task


def turns(prompt) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in prompt.turns]


def test_captions_of_other_patients_stand_in_front_with_their_images(data):
    result, model, task = run(data, {"shots": 2}, instruction="Describe it.")
    of_patient, of_another = model.prompts
    assert turns(of_patient) == [  # the patient's own film, the second of train, is passed by
        ("user", "<image>\n<image>\nDescribe it."),
        ("assistant", "effusion"),
        ("user", "<image>\nDescribe it."),
        ("assistant", "rib fracture"),
        ("user", "<image>\nDescribe it."),
    ]
    assert [str(name) for name in of_patient.pixels] == [
        "train__0__0__0/0.jpg",
        "train__0__0__0/1.jpg",
        "train__2__0__0/0.jpg",
        "test__0__0__0/0.jpg",
    ]
    assert [text for role, text in turns(of_another) if role == "assistant"] == ["effusion", "normal film"]
    assert result.protocol["prompting"]["examples_per_question"] == {"2": 2}
    assert result.protocol["decoding"] == "greedy, at most 256 tokens"
    assert task.prompting_identity == {"examples": ShardDataset(data / "train").manifest_hash}
    assert result.protocol["first_prompt"].startswith("<image>\n<image>\nDescribe it. | effusion | ")
    scores = {metric.name: metric.value for metric in result.metrics}
    assert scores["rouge_1"] == np.mean([1, 0])


def test_the_nearest_source_stands_next_to_the_prompt(data):
    summary = {"instruction": "Sum up: {text}", "source": "findings", "show_images": False}
    _, model, _ = run(data, {"shots": 2, "selection": "nearest"}, **summary)
    assert turns(model.prompts[1])[2:] == [
        ("user", "Sum up: fracture of a rib"),
        ("assistant", "rib fracture"),
        ("user", "Sum up: fracture of the clavicle"),
    ]
    assert ("assistant", "normal film") not in turns(model.prompts[0])


def test_texts_are_sampled_once_and_the_card_says_so(data):
    result, model, _ = run(data, {"temperature": 0.5, "seed": 3}, instruction="Describe it.")
    assert (model.prompts, len(model.sampled)) == ([], 2)
    assert {record["prediction"] for record in result.records} == {"sampled"}
    assert result.protocol["decoding"] == "1 sample at temperature 0.5, seed 3, at most 256 tokens"


@pytest.mark.parametrize(
    ("prompting", "message"),
    [
        ({"samples": 3, "temperature": 0.7}, r"prompting\.samples is for answers, of which most can agree"),
        ({"chain_of_thought": True}, r"prompting\.chain_of_thought is for answers"),
        ({"shots": 1, "split": "test"}, r"is the split that is scored"),
        ({"shots": 1, "selection": "nearest"}, r"compares sources, and the task has no source"),
    ],
)
def test_what_does_not_fit_texts_is_refused(data, prompting, message):
    with pytest.raises(ConfigError, match=message):
        run(data, prompting, instruction="Describe it.")


SETS = {"plain": {}, "terse": {"instruction": "Be terse."}, "shots": {"prompting": {"shots": 1, "split": "other"}}}


def chosen(data, metric="", **options):
    """Of which set the scores are: each says another text."""
    config = WrittenTextConfig(
        name="made", data=str(data), references=["impression"], instruction="Describe it.", metrics=["rouge", "chrf"]
    )
    config = replace(config, prompt_sets=SETS, prompt_set_metric=metric, controls=[], valid_split="train", **options)
    config.check()
    says = {1: {"Describe it.": "normal", "Be terse.": "rib fracture effusion effusion"}, 3: {"Describe it.": "x"}}
    model = Told(says=lambda prompt: says[len(prompt.turns)][prompt.turns[-1].text.replace("<image>\n", "")])
    task = WrittenText.from_config(config, ShardDataset(data / "test"), TaskSettings(bootstrap=Bootstrap(resamples=0)))
    return task.run(model), task


def test_the_set_that_is_best_on_valid_by_the_named_metric_gives_the_scores(data):
    (data / "other").exists() or write_split(data / "other", [report("other", 7, "p7", "clear", "calm")])
    result, task = chosen(data)
    assert result.protocol["prompt_set"] == "terse"
    assert result.protocol["prompt_set_chosen"].startswith("best rouge_l on the validation split: plain 0.")
    assert result.protocol["instruction"] == "Be terse."
    scores = {metric.name: metric.value for metric in result.metrics}
    by_hand = {"plain": (1 + 0) / 2, "terse": (0 + 2 / 6) / 2, "shots": 0.0}
    assert scores["rouge_l"] == pytest.approx(by_hand["terse"])
    assert scores["rouge_l/prompts_best"] == pytest.approx(by_hand["plain"])
    assert (scores["rouge_l/prompts_median"], scores["rouge_l/prompts_worst"]) == pytest.approx((by_hand["terse"], 0))
    assert "shots 0.000" in result.protocol["prompt_set_chosen"]
    assert set(task.prompting_identity) == {"plain", "terse", "shots"}
    with pytest.raises(TaskError, match="prompt_set_metric=bleu_9 is none of its metrics: chrf, rouge_1"):
        chosen(data, "bleu_9")
    by_recall, _ = chosen(data, "chrf")
    assert by_recall.protocol["prompt_set_chosen"].startswith("best chrf on")


def test_a_set_of_texts_cannot_vote(data):
    with pytest.raises(ConfigError, match="kind: text has no votes"):
        run(data, {}, instruction="Describe it.", prompt_sets={"a": {"prompting": {"samples": 3, "temperature": 0.5}}})
