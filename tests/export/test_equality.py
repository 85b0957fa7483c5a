import numpy as np
import pytest
import torch

from medvlp.export.equality import (
    NEW_TOKENS,
    QUESTIONS,
    ExportCheck,
    ExportMismatch,
    ProbeResult,
    compare,
    messages,
    probe_image,
)

IDS, LOGITS = torch.arange(5), torch.linspace(-3, 3, 15).reshape(5, 3)


def theirs(**changed) -> dict:
    """What a reloaded folder answers where it is the same model, but for what is changed."""
    same = {"ids": IDS, "ids_rendered": IDS, "logits": LOGITS, "text": "yes"}
    return {"pil": {"one question": {**same, **changed}}, "default": {"one question": same}}


OURS = {"one question": ProbeResult(IDS, LOGITS, "yes")}


def test_equal_answers_agree_and_differences_are_measured():
    assert compare(OURS, theirs()) == ExportCheck(["one question"], 0.0, 0.0, True)
    comparison = compare(OURS, theirs(logits=LOGITS + torch.tensor([0, 5e-5, 0])))
    assert comparison.max_difference == pytest.approx(5e-5, rel=1e-2)
    resized = theirs()
    resized["default"]["one question"] = {**theirs()["pil"]["one question"], "logits": LOGITS - 0.25, "text": "no"}
    assert compare(OURS, resized) == ExportCheck(["one question"], 0.0, 0.25, False)


@pytest.mark.parametrize(("error", "is_allowed"), [(9e-4, True), (1.1e-3, False)])
def test_large_logits_may_differ_by_what_single_precision_rounds(error, is_allowed):
    logits = torch.linspace(-100, 100, 15, dtype=torch.float64).reshape(5, 3)
    ours, reloaded = {"one question": ProbeResult(IDS, logits, "yes")}, theirs(logits=logits + error)
    reloaded["default"]["one question"]["logits"] = logits
    if is_allowed:
        assert compare(ours, reloaded).max_difference == pytest.approx(error)
    else:
        with pytest.raises(
            ExportMismatch, match=r"logits differ by up to 1.1e-03, allowed are 1.0e-03 \(largest logit: 100"
        ):
            compare(ours, reloaded)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ids": torch.tensor([0, 1, 7, 3, 4])}, "token 2 is 7 instead of 2"),
        ({"ids_rendered": torch.arange(6)}, "6 instead of 5 tokens"),
        ({"logits": LOGITS + 2e-4}, r"logits differ by up to 2.0e-04, allowed are 1.0e-04 \(largest logit: 3.0\)"),
        ({"logits": LOGITS * torch.nan}, "logits differ by up to nan"),
        ({"text": "no"}, "the answer is 'no', the trained model's 'yes'"),
    ],
)
def test_each_difference_is_named(changed, said):
    with pytest.raises(ExportMismatch, match=f"one question: .*{said}"):
        compare(OURS, theirs(**changed))


def test_the_questions_need_what_can_go_wrong(tmp_path):
    first, second = (np.asarray(probe_image(number)) for number in range(2))
    assert first.shape == second.shape == (150, 190, 3)  # not square, so that resizing and cropping matter
    assert np.abs(first.astype(int) - second).mean() > 20
    assert np.array_equal(first, np.asarray(probe_image(0)))
    assert NEW_TOKENS >= 16
    counts = {name: sum(turn.text.count("<image>") for turn in turns) for name, turns in QUESTIONS.items()}
    assert counts == {"one question": 1, "a second question": 1, "two images": 2, "no image": 0}
    content = messages(QUESTIONS["two images"], tmp_path)[0]["content"]
    assert [part["type"] for part in content] == ["image", "image", "text"]
    assert content[2]["text"] == "What has changed?"
