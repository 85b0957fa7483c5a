"""The page of written texts."""

from medvlp.report.run.texts import CHARACTERS, text_examples
from medvlp.report.thumbnails import Thumbnails
from medvlp.shards import ShardDataset


def record(key, score, text="a text"):
    return {
        "id": key, "prediction": text, "target": "first", "references": ["first", "second"], "score": score,
        "scores": {"rouge_l": score}, "controls": {"blank_image": "nothing"},
    }  # fmt: skip


def test_texts_next_to_their_references(prepared):
    thumbnails = Thumbnails(str(prepared / "test"), ShardDataset(prepared / "test").manifest_hash, None)
    records = [
        record("figures__a1", 0.2),
        record("figures__a2", 0.9, "x" * 3 * CHARACTERS),
        record("figures__a3", None),
    ]
    examples = text_examples(records, {"instruction": "Describe it."}, thumbnails, 2)
    by_title = {title: [example.thumbnail.key for example in rows] for title, rows in examples.questions}
    assert by_title["Most similar to their references"] == ["figures__a2", "figures__a1"]
    assert by_title["Least similar to their references"] == ["figures__a1", "figures__a2"]
    assert len(by_title["Texts by chance"]) == 2
    best = examples.questions[1][1][0]
    assert (best.question, best.target, best.controls) == (
        "Describe it.",
        "first\nsecond",
        [("blank_image", "nothing")],
    )
    assert len(best.prediction) == CHARACTERS
    assert text_examples(records, {}, None).questions == []
