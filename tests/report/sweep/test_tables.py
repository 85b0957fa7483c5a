"""Lines under the table of results."""

from medvlp.report.sweep.tables import MODELS_A_LINE, leakage_notes

NONE = {"samples": 9, "same_bytes": 0, "same_picture": 0, "same_id": 0, "same_group": 0, "compared": ["train"]}


def row(checkpoint: str, in_train: object) -> dict[str, object]:
    protocol = {"split": "test", "in_train": in_train}
    return {"checkpoint": checkpoint, "task": "modality", "metric": "acc1", "value": 0.5, "n": 9, "protocol": protocol}


def test_models_with_the_same_overlap_share_a_line():
    rows = [row(f"r{number}/last.ckpt", NONE) for number in range(MODELS_A_LINE + 2)]
    rows += [row("other/last.ckpt", NONE | {"same_bytes": 9, "unknown": ["old, which is not here"]})]
    rows += [row("hf:theirs", "unknown")]
    assert leakage_notes(rows) == [
        "modality, r0/last, r1/last, r2/last, r3/last and 2 more: none of 9 samples of test has an image that is in train",
        "modality, other/last: 9 of 9 samples of test have an image that is in train: 9 the same bytes, 0 the same picture",
        "modality, other/last: not compared with old, which is not here",
    ]
