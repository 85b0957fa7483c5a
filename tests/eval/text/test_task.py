"""Written text from split to metrics: what is asked, what is left out, controls, and what records hold."""

from dataclasses import replace

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from medvlp.config import WrittenTextConfig
from medvlp.config.evaluation.groupings import Grouping
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import TaskError
from medvlp.eval.models.answering import Answer
from medvlp.eval.statistics.cards import differences
from medvlp.eval.statistics.measures import measures
from medvlp.eval.statistics.paired import paired_differences
from medvlp.eval.statistics.subgroups import subgroups_of
from medvlp.eval.task import TaskSettings
from medvlp.eval.text.prompts import LONGEST, TextPrompt
from medvlp.eval.text.task import WrittenText
from medvlp.eval.trained import Trained
from medvlp.eval.vqa.controls import derangement
from medvlp.jsonl import encode_json
from medvlp.shards import Sample, ShardDataset
from tests.datasets import jpeg, write_split

NO_INTERVALS = Bootstrap(resamples=0, seed=4)
CAPTIONS = ["large left effusion", "no effusion", "normal chest film", "rib fracture on the left"]
PROMPT = TextPrompt(("caption",), "Describe it.")


class Writer:
    """Writes a function of the numbers of the images that it is shown (None for a blank one), and of the question."""

    offers, identity, takes_images = ("generate",), "writer", True

    def __init__(self, says, longest=10**6):
        self.says, self.longest, self.prompts = says, longest, []

    def pictures(self, sample):
        return [int(sample.key.split("__")[1])] * len(sample.images)

    def gathered(self, images):
        return [pictures[position] for pictures, position in images]

    def blank(self, count):
        return [None] * count

    def fits(self, turns, option_turns, images, options, max_new_tokens):
        return len(turns[-1].text) + max_new_tokens <= self.longest

    def prompt_text(self, turns, images):
        return turns[-1].text

    def generate(self, prompts, max_new_tokens):
        self.prompts += [prompt.turns[-1].text for prompt in prompts]
        return [self.says(prompt.pixels, prompt.turns[-1].text) for prompt in prompts]

    def metadata(self):
        return {}


def sees(pixels, question):
    """Right about images 0 and 1, wrong about 2, silent about 3, and one sentence without an image."""
    return {0: CAPTIONS[0], 1: CAPTIONS[1], 2: "an effusion", 3: "", None: "no effusion"}[pixels[0]]


def made(number, images=1, group=None, **texts):
    names = ["jpg"] if images == 1 else [f"{index}.jpg" for index in range(images)]
    return Sample(
        f"made__{number}__0__0",
        {name: jpeg(number * 10 + index) for index, name in enumerate(names)},
        texts=texts,
        labels={"modality": "x-ray" if number % 2 else "ct"},
        metadata={"group": group or f"case{number}", "group_kind": "case"},
    )


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    samples = [made(number, caption=caption) for number, caption in enumerate(CAPTIONS)]
    return ShardDataset(write_split(tmp_path_factory.mktemp("captions") / "test", samples))


@pytest.fixture(scope="module")
def task(split):
    return WrittenText("made", split, PROMPT, bootstrap=Bootstrap(resamples=200, seed=4))


@pytest.fixture(scope="module")
def result(task):
    return task.run(Writer(sees))


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_metrics_of_a_split_by_hand(result):
    scores = values(result)
    texts = [sees([number], "") for number in range(4)]
    assert scores["bleu_1"] == pytest.approx(BLEU(max_ngram_order=1).corpus_score(texts, [CAPTIONS]).score / 100)
    assert scores["bleu_2"] == pytest.approx(BLEU(max_ngram_order=2).corpus_score(texts, [CAPTIONS]).score / 100)
    assert scores["rouge_1"] == scores["rouge_l"] == pytest.approx(2 / 4)
    # stated: effusion, -, effusion (wrongly), -; in truth: effusion, -, -, fracture
    assert scores["findings_precision_micro"] == scores["findings_recall_micro"] == pytest.approx(1 / 2)
    assert scores["findings_f1_macro"] == pytest.approx((2 / 3 + 0) / 2)
    assert scores["findings_f1/fracture"] == 0.0
    assert [name for name in scores if "/" not in name] == [
        "bleu_1", "bleu_2", "bleu_3", "bleu_4", "chrf", "rouge_1", "rouge_2", "rouge_l", "meteor", "cider_d",
        "findings_precision_micro", "findings_recall_micro", "findings_f1_micro",
        "findings_precision_macro", "findings_recall_macro", "findings_f1_macro",
    ]  # fmt: skip
    assert all(metric.n == 4 for metric in result.metrics)


def test_controls_by_hand(result):
    scores = values(result)
    assert scores["rouge_l/blank_image"] == pytest.approx(
        (2 / 5 + 1 + 0 + 0) / 4  # "no effusion" against each caption
    )
    assert scores["rouge_l/minus_blank_image"] == pytest.approx(scores["rouge_l"] - scores["rouge_l/blank_image"])
    donors = [row[0][0] for row in derangement([1] * 4, seed=4)]
    assert [record["controls"]["other_reference"] for record in result.records] == [CAPTIONS[i] for i in donors]
    assert [record["controls"]["shuffled_images"] for record in result.records] == [sees([i], "") for i in donors]
    for name in ("bleu_4", "findings_f1_micro", "cider_d"):
        for control in ("other_reference", "blank_image", "shuffled_images"):
            difference = scores[name] - scores[f"{name}/{control}"]
            assert scores[f"{name}/minus_{control}"] == pytest.approx(difference, abs=1e-12)
    assert not any(name.startswith(("chrf/", "rouge_1/")) for name in scores)
    assert result.protocol["controls"]["seed"] == 4
    defined = [metric for metric in result.metrics if not np.isnan(metric.ci_low)]
    assert len(defined) == len(result.metrics)
    assert all(metric.ci_low <= metric.value <= metric.ci_high for metric in defined if "cider" not in metric.name)


def test_a_record_holds_all_that_metrics_are_computed_from(result):
    record = result.records[0]
    assert (record["id"], record["group"], record["prediction"]) == ("made__0__0__0", "case0", CAPTIONS[0])
    assert record["references"] == [record["target"]] == [CAPTIONS[0]]
    assert record["numbers"]["bleu"] == [3, 3, 3, 2, 1, 0, 3, 2, 1, 0]
    assert (record["findings"], record["reference_findings"]) == ({"pleural effusion": "present"},) * 2
    assert record["fields"] == {"modality": "ct"}
    assert encode_json(record)
    again = {
        name: metric(None)
        for part in measures(result.records, result.protocol)
        for name, metric in part.metrics.items()
    }
    assert again == pytest.approx(values(result))


def test_comparisons_and_subgroups_work_from_records_alone(task, result):
    other = task.run(Writer(lambda pixels, question: "no effusion"))
    parts = {"a": measures(result.records, result.protocol)[0], "b": measures(other.records, other.protocol)[0]}
    names = ("bleu_2", "rouge_l")
    by_name = {d.metric: d for d in paired_differences(parts, [("a", "b")], names, Bootstrap(resamples=100))}
    assert by_name["rouge_l"].difference == pytest.approx(values(result)["rouge_l"] - values(other)["rouge_l"])
    assert (by_name["rouge_l"].wins, by_name["rouge_l"].ties, by_name["bleu_2"].wins) == (1, 3, None)
    assert 0 < by_name["bleu_2"].p <= 1
    rows = subgroups_of(result.records, result.protocol, [Grouping("modality", "modality")], [], NO_INTERVALS).rows
    of_bleu = {row["group"]: row for row in rows if row["metric"] == "bleu_4"}
    assert {group: row["n"] for group, row in of_bleu.items()} == {"ct": 2, "x-ray": 2}
    rouge = {row["group"]: row["value"] for row in rows if row["metric"] == "rouge_l"}
    assert rouge == pytest.approx({"ct": 1 / 2, "x-ray": 1 / 2})


def test_cards_differ_by_instruction_and_references(result):
    changed = result.protocol | {"instruction": "Write.", "n": 3}
    assert [(d.line, d.decides) for d in differences(result.protocol, changed)] == [("instruction", True), ("n", False)]


def test_trained_on_items_are_measured_apart(task):
    trained = Trained({"made__0__0__0": "bytes"}, ["train"])
    scores = values(replace(task, trained=trained, metrics=("bleu", "rouge"), controls=()).run(Writer(sees)))
    assert (scores["rouge_l_in_train"], scores["rouge_l_not_in_train"]) == (1.0, pytest.approx(1 / 3))
    assert scores["bleu_3_in_train"] == pytest.approx(1.0)


def test_what_is_asked(tmp_path):
    samples = [
        made(0, 2, findings="A rib fracture.", impression="Fracture.", indication="fall"),
        made(1, 0, findings="Clear lungs.", impression="Normal."),
    ]
    data = ShardDataset(write_split(tmp_path / "test", samples))
    summary = WrittenText("sum", data, TextPrompt(("impression",), "Sum up.", "findings", False), ("rouge",))
    model = Writer(lambda pixels, question: "Fracture.")
    scored = replace(summary, bootstrap=NO_INTERVALS).run(model)
    assert model.prompts == ["Sum up.\n\nA rib fracture.", "Sum up.\n\nClear lungs."]
    assert values(scored)["rouge_l"] == 0.5
    assert scored.protocol["controls"] == {
        "other_reference": scored.protocol["controls"]["other_reference"], "seed": 4,
        "skipped": "blank_image, shuffled_images: the task shows no images",
    }  # fmt: skip
    seen = Writer(lambda pixels, question: "x")
    prompt = TextPrompt(("impression", "findings"), "Given {text}, report.", "indication")
    report = WrittenText("report", data, prompt, ("rouge",), controls=(), bootstrap=NO_INTERVALS).run(seen)
    assert seen.prompts == ["<image>\n<image>\nGiven fall, report."]
    assert report.records[0]["references"] == ["Fracture.", "A rib fracture."]
    assert report.protocol["exclusions"] == ["1 of 2 samples: no text to write about"]
    assert report.protocol["references_per_sample"] == {"2": 1}
    blind = Writer(lambda pixels, question: "x")
    blind.takes_images = False
    alone = WrittenText("report", data, prompt, ("rouge",), bootstrap=NO_INTERVALS).run(blind)
    assert blind.prompts == ["Given fall, report."]
    assert alone.protocol["images"].startswith("withheld")
    assert "images are withheld" in alone.protocol["controls"]["skipped"]


def test_what_is_left_out_is_counted(tmp_path):
    samples = [
        made(0, caption="heart"),
        made(1, caption=" "),
        made(2, 0, caption="heart"),
        made(3, caption="a" * (LONGEST + 1)),
        made(4, caption="refused"),
    ]
    data = ShardDataset(write_split(tmp_path / "test", samples))
    model = Writer(lambda pixels, question: Answer("", "too_large") if pixels == [4] else Answer("heart", "stop"))
    result = WrittenText("made", data, PROMPT, ("cider_d", "bleu"), controls=("other_reference",)).run(model)
    assert result.protocol["excluded"] == {"no_image": 1, "no_reference": 1, "text_too_long": 1, "too_large": 1}
    assert "1 of 5 samples: a text of more than 100000 characters" in result.protocol["exclusions"]
    assert (result.protocol["n"], result.protocol["cider_documents"]) == (1, 3)
    assert result.protocol["controls"] == {"skipped": "other_reference: there is one sample"}
    with pytest.raises(
        TaskError, match=r"no text can be asked for .*'too_long': 2.* its samples have the text fields \['caption'\]"
    ):
        WrittenText("made", data, PROMPT, ("bleu",)).run(Writer(sees, longest=100))


def test_a_task_from_its_configuration(split):
    config = WrittenTextConfig(name="made", data="d", instruction="Write.", metrics=["bleu", "green"], valid_limit=2)
    with pytest.raises(TaskError, match=r"task made: metric 'green' is GREEN"):
        WrittenText.from_config(config, split, TaskSettings())
    task = WrittenText.from_config(config, split, TaskSettings(NO_INTERVALS, in_training=True))
    assert (task.metrics, task.plugins, task.controls, task.limit) == (("bleu",), (), (), 2)
    assert [metric.name for metric in task.run(Writer(sees)).metrics] == ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]
