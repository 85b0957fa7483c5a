"""Errors in reports: what each rule makes of a sentence, what it leaves alone, and the samples that come of it."""

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.prepared.report_errors.rules import KINDS, changes
from medvlp.eval.error_check.task import ErrorCheck
from medvlp.shards import Sample, ShardDataset
from tests.datasets import jpeg, write_split
from tests.eval.vqa.test_task import NO_INTERVALS, assistant_model, encoder, values  # noqa: F401


@pytest.mark.parametrize(
    ("kind", "sentence", "expected"),
    [
        ("side", "There is a left pleural effusion.", "There is a right pleural effusion."),
        ("side", "Right-sided chest tube in place.", "Left-sided chest tube in place."),
        ("side", "The LEFT hilum is enlarged.", "The RIGHT hilum is enlarged."),
        ("severity", "There is mild cardiomegaly.", "There is severe cardiomegaly."),
        ("severity", "There is an acute fracture.", "There is a chronic fracture."),
        ("severity", "A large mass is seen.", "A small mass is seen."),
        ("number", "A nodule of 6 mm is seen.", "A nodule of 60 mm is seen."),
        ("number", "A mass of 12.5 cm is seen.", "A mass of 1.25 cm is seen."),
        ("unit", "A nodule of 6 mm is seen.", "A nodule of 6 cm is seen."),
        ("unit", "He takes 50 mg daily.", "He takes 50 g daily."),
        ("organ", "There is a lesion in the liver.", "There is a lesion in the spleen."),
        ("organ", "Consolidation of the upper lobe is seen.", "Consolidation of the lower lobe is seen."),
        ("negation_removed", "There is no pneumothorax.", "There is pneumothorax."),
        ("negation_removed", "No pleural effusion.", "There is pleural effusion."),
        ("negation_removed", "No pleural effusion is seen.", "Pleural effusion is seen."),
        ("negation_removed", "There is no evidence of fracture or dislocation.", "There is evidence of fracture or dislocation."),
        ("negation_removed", "The heart is not enlarged.", "The heart is enlarged."),
        ("negation_removed", "Stent in place without residual stenosis.", "Stent in place with residual stenosis."),
        ("negation_added", "There is a small effusion.", "There is no small effusion."),
        ("negation_added", "Edema is seen.", "Edema is not seen."),
        ("negation_added", "The CT shows a large mass.", "The CT shows no large mass."),
        ("dropped", "There is a large effusion and atelectasis.", "There is a large effusion."),
        # the side, size or organ is part of a name, or none at all
        ("side", "The left ventricle is enlarged.", None),
        ("side", "The tube was left in place.", None),
        ("side", "Dilatation of the right atrium is seen.", None),
        ("side", "Effusions on the left and right.", None),
        ("side", "There are bilateral effusions, more on the left.", None),
        ("severity", "The small bowel has an ulcer.", None),
        ("severity", "A small large mass.", None),
        ("severity", "There is chronic obstructive pulmonary disease.", None),
        ("severity", "The border is marked by arrows.", None),
        ("organ", "A frontal radiograph shows a fracture.", None),
        ("organ", "Fluid around liver and spleen is seen.", None),
        # as true as before, perhaps
        ("side", "The left lung is clear.", None),
        ("side", "No left effusion.", None),
        ("side", "Possible left effusion.", None),
        ("severity", "There is no large effusion.", None),
        ("organ", "The liver is normal.", None),
        ("negation_removed", "Pneumonia cannot be excluded.", None),
        ("negation_removed", "There is no longer an effusion.", None),
        ("negation_removed", "No significant change.", None),
        ("negation_removed", "No effusion and no pneumothorax.", None),
        ("negation_added", "There is a possible fracture.", None),
        ("negation_added", "The lungs are clear.", None),
        ("negation_added", "The image shows the left kidney.", None),
        ("number", "The patient is 45 years old.", None),
        ("number", "Blood pressure is 120/80 mmHg.", None),
        ("number", "A stenosis of 100% is seen.", None),
        ("number", "A nodule of 0 mm.", None),
        ("unit", "A stenosis of 90% is seen.", None),
        ("dropped", "There is a left and right effusion.", None),
        ("dropped", "Arrows show electrode in the basal and first turn.", None),
        ("inserted", "There is a fracture.", None),  # no text about a chest
        ("side", "Nothing.", None),
        ("negation_removed", "", None),
    ],
)  # fmt: skip
def test_one_rule_on_one_sentence(kind, sentence, expected):
    texts = [change.text for change in changes([sentence], [kind])]
    assert texts == ([] if expected is None else [expected])


def test_a_finding_is_put_in_where_the_text_says_nothing_of_it():
    lines = ["There is a left pleural effusion.", "No pneumothorax.", "The heart is not enlarged."]
    texts = {change.text for change in changes(lines, ["inserted"])}
    assert texts == {
        "There is a left pleural effusion and a rib fracture.",
        "There is a left pleural effusion and a pulmonary nodule.",
        "There is a left pleural effusion and a hiatal hernia.",
        "There is a left pleural effusion and emphysema.",
    }


def test_no_change_is_a_sentence_that_the_text_has_already():
    assert not changes(["There is a left effusion.", "There is a right effusion."], ["side"])
    assert {change.sentence for change in changes(["Edema is seen.", "There is mild edema."], list(KINDS))} == {0, 1}


REPORT = "There is a {} left effusion. No pneumothorax. The heart is not enlarged."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    texts = [REPORT.format(size) for size in ("small", "large", "mild", "severe", "new") * 8] + ["Clear.", ""]
    write_split(
        folder / "test",
        [
            Sample(
                f"made__{number}__0__0",
                {"jpg": jpeg(number)},
                texts={"caption": "A film.", **({"findings": text} if text else {})},
                metadata={"group": f"g{number}", "group_kind": "patient", "modality": "X-ray"},
            )
            for number, text in enumerate(texts)
        ],
    )
    return folder


def read(folder, **options):
    source = open_source("report_errors", str(folder), options={"text": "findings", **options})
    (unit,) = source.units()
    return source, list(source.read(unit))


def test_half_stay_right_and_the_others_say_what_was_changed(folder):
    source, items = read(folder)
    assert [item.reason for item in items if isinstance(item, Dropped)] == ["no_error_fits", "no_text"]
    conversations = [item.conversations[0] for item in items if not isinstance(item, Dropped)]
    right = [c for c in conversations if c.turns[1].text == "no"]
    assert 10 < len(right) < 30  # of 40, by a hash
    assert all(c.metadata["error_sentence_id"] == -1 and "error_sentence" not in c.metadata for c in right)
    kinds = set()
    for conversation in conversations:
        lines = conversation.turns[0].text.removeprefix("<image>\n").split("\n")
        assert lines[-1] == "Does this text contain an error?"
        if conversation in right:
            continue
        metadata = conversation.metadata
        kinds.add(metadata["question_type"])
        number = metadata["error_sentence_id"]
        assert lines[number] == f"{number} {metadata['error_sentence']}"
        lines[number] = f"{number} {metadata['corrected_sentence']}"
        assert " ".join(line.partition(" ")[2] for line in lines[:-1]) in [
            REPORT.format(size) for size in ("small", "large", "mild", "severe", "new")
        ]
    assert len(kinds) >= 4
    assert source.counts["read", "texts left right"] == len(right)
    assert sum(source.counts.values()) == 40
    assert read(folder)[1] == items  # the same again
    assert read(folder, seed=1)[1] != items


def test_choices_shape_the_texts(folder):
    _, items = read(folder, kinds=["side"], show_images=False, question="Right?")
    errors = [
        i.conversations[0] for i in items if not isinstance(i, Dropped) and i.conversations[0].turns[1].text == "yes"
    ]
    assert {c.metadata["question_type"] for c in errors} == {"side"}
    assert all(c.turns[0].text.startswith("0 There is a") and c.turns[0].text.endswith("\nRight?") for c in errors)
    assert not any(item.images for item in items if not isinstance(item, Dropped))
    assert {i.reason for i in read(folder, least_sentences=4)[1]} == {"too_few_sentences", "no_text"}
    for options in ({"kinds": ["spelling"]}, {"question": " "}, {"least_sentences": 0}):
        with pytest.raises(PrepError):
            read(folder, **options)


def test_from_reports_to_the_score_of_a_reader_who_sees_everything(folder, tmp_path, encoder):  # noqa: F811
    options = {"text": "findings", "kinds": ["side", "negation_removed"]}
    ledger = prepare("report_errors", folder, tmp_path / "out", options=options, duplicates="off", min_side=1).ledger
    assert ledger["out"] == 40
    assert ledger["drops"] == {"read": {"no_error_fits": 1, "no_text": 1}}
    assert {"texts left right", "error: side", "error: negation_removed"} <= ledger["counts"]["read"].keys()

    def says(text, number):
        for line in text.split("\n"):
            if "right effusion" in line:
                return line.replace("right", "left")
            if "pneumothorax" in line and "No " not in line:
                return "1 No pneumothorax."
            if "is enlarged" in line:
                return "2 The heart is not enlarged."
        return "CORRECT"

    task = ErrorCheck("made", ShardDataset(tmp_path / "out" / "test"), bootstrap=NO_INTERVALS)
    by_name = values(task.run(assistant_model(encoder, says)))
    assert by_name["flag_accuracy"] == by_name["sentence_accuracy"] == 1
    assert by_name["correction_rouge_1_composite"] == pytest.approx(1)
    assert 0 < by_name["flag_accuracy/minus_all_correct"] < 1
