"""Visual reliance of a model that answers questions: what its answers owe to the image, from the controls that exist.

The measures and their names are those of Zafar, Vashist and Murali, "Beyond Accuracy: Evaluating Visual Grounding in
Multimodal Medical Reasoning" (arXiv 2603.03437). They are implemented after the abstract and the authors' own summary of
the work; the paper's formulas were not at hand, so `RELIANCE` says of each what is known and what is our reading.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvlp.config.evaluation.controls import IMAGE_CONTROLS
from medvlp.eval.answers import extract_choice, extract_number, extract_text, extract_yes_no
from medvlp.eval.answers.normalization import normalize
from medvlp.eval.bootstrap import MetricValue
from medvlp.eval.metrics import Array, Value
from medvlp.eval.vqa.metrics import MULTIPLE_CHOICE, NUMBER, asks_yes_no

BLANK_IMAGE, SHUFFLED_IMAGES = IMAGE_CONTROLS[:2]
VRS, SENSITIVITY, CLAIMS = "visual_reliance_score", "image_sensitivity", "visual_claim_rate"
HVRR, CLAIMS_HALLUCINATED = "hallucinated_visual_reasoning_rate", "hallucinated_share_of_claims"
RETENTION = "blank_image_retention"

RELIANCE = {
    VRS: "VRS: accuracy with the sample's own image minus accuracy with another sample's, as published; here an answer is "
    "right if it matches exactly (closed, open) or names the right option",
    SENSITIVITY: "IS: share of answers that change when the image is exchanged for another sample's, right or wrong, as "
    "published; here answers are compared as yes or no, as the option they name, or by their normalised tokens",
    CLAIMS: "share of responses (reasoning and answer) that claim to see something, by a list of English patterns of our "
    "own; how the authors recognise a claim is not known to us",
    HVRR: "HVRR: share of all responses that claim to see something while the answer stays the same with another sample's "
    "image; that the denominator is all responses is our reading of the published figures (0.68 to 0.74 claim, 0.38 to 0.43 "
    "HVRR, 0.61 of one model's claims without effect), since the texts can be read both ways",
    CLAIMS_HALLUCINATED: "the same as a share of the responses that claim to see something",
    RETENTION: "accuracy with blank images divided by accuracy with the samples' own, right as for VRS: the share of its "
    "performance that a model retains (0.81 in one published case)",
}
"""Metric → what it is, and what is not certain about it."""

_IMAGE = (
    r"(?:image|picture|photo(?:graph)?|scan|x-?ray|radiograph|film|slide|micrograph|ct|mri|ultrasound|figure|view)s?"
)
_SHOWS = r"(?:(?:show|demonstrate|reveal|depict|display|contain|present|exhibit|indicate|suggest|appear)s?|showing)"
_CLAIMS = re.compile(
    rf"\b{_IMAGE}\b[^.?!\n]{{0,60}}\b{_SHOWS}\b"
    r"|\b(?:seen|visible|visuali[sz]ed|observed|evident|depicted|identified|noted)\b"
    r"|\b(?:i|we)(?:\s+can|\s+do)?(?:\s+clearly)?\s+(?:see|observe|notice)\b"
    r"|\bthere\s+(?:is|are|appears?|seems?)\b"
    r"|\bappears?\s+(?:to\b|as\b|normal|abnormal|enlarged|\w+(?:ed|ic|al|ous)\b)",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:can\s?not|can['’]t|could\s?not|couldn['’]t|unable\s+to|not\s+able\s+to)\b[^.?!\n]{0,40}"
    r"\b(?:see|seen|view|access|observe|observed|determine|determined)\b[^.?!,;\n]*"
    r"|\b(?:there\s+is\s+)?no\s+(?:image|picture)\b[^.?!,;\n]*",
    re.IGNORECASE,
)


def claims_to_see(text: str) -> bool:
    """Whether a text states a visual finding: "the scan shows …", "is visible", "there is a fracture". Of English only.

    A claim that something is absent is one ("there is no fracture"). That an image cannot be seen is none, and an answer of
    a word or two is none.
    """
    return _CLAIMS.search(_DENIAL.sub(" ", text)) is not None


def final_answer(record: Mapping[str, Any], text: str) -> str:
    """What a response to the record's question comes to: yes or no, an option's letters, a number, or its normalised tokens."""
    if record["answer_type"] == MULTIPLE_CHOICE:
        is_multiple = ", " in str(record.get("letter", ""))
        answer = extract_choice(text, record["options"], is_multiple, str(record.get("question", ""))).answer
        return ", ".join(answer) if answer else normalize(text)
    if record["answer_type"] == NUMBER:
        answer = extract_number(text, record.get("number_type", "decimal")).answer
        return normalize(text) if answer is None else str(answer)
    if asks_yes_no(record["target"]):
        return extract_yes_no(text, str(record.get("question", ""))).answer or normalize(text)
    return normalize(extract_text(text).answer or text)


def reliance_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Metric → its value of each record of a vqa task; None where the record does not count.

    Only questions about images count, and only controls that were run. Claims are looked for in questions in English, or
    whose language is not stated.
    """
    columns: dict[str, list[float | None]] = {}

    def add(name: str, values: list[float | None]) -> None:
        if any(value is not None for value in values):
            columns[name] = values

    seeing = [_has_images(record) for record in records]
    rights = [_exact(record["scores"]) for record in records]
    wrong_image = [_exact(record["control_scores"].get(SHUFFLED_IMAGES, {})) for record in records]
    is_same = [_is_same(record) for record in records]
    triples = zip(seeing, rights, wrong_image, strict=True)
    add(VRS, [a - b if see and a is not None and b is not None else None for see, a, b in triples])
    if not any(same is not None for same in is_same):
        return columns
    counted = [
        (same, _claims(record)) if see and same is not None else None
        for see, same, record in zip(seeing, is_same, records, strict=True)
    ]
    add(SENSITIVITY, [None if pair is None else float(not pair[0]) for pair in counted])
    readable = [pair if pair is not None and pair[1] is not None else None for pair in counted]
    add(CLAIMS, [None if pair is None else float(bool(pair[1])) for pair in readable])
    add(HVRR, [None if pair is None else float(bool(pair[0] and pair[1])) for pair in readable])
    add(CLAIMS_HALLUCINATED, [None if pair is None or not pair[1] else float(bool(pair[0])) for pair in readable])
    return columns


@dataclass(frozen=True)
class Retention:
    """Accuracy with blank images over accuracy with the samples' own, as a function of weights_RN; NaN where the latter is 0.

    blank_N, image_N: whether each item was answered rightly; 0 in both for items that do not count.
    member_N: whether it counts.
    """

    blank_N: Array
    image_N: Array
    member_N: NDArray[np.bool_]

    def __call__(self, weights_RN: Array | None) -> Value:
        rows_RN = np.ones((1, len(self.image_N))) if weights_RN is None else np.asarray(weights_RN, np.float64)
        blank_R, image_R = rows_RN @ self.blank_N, rows_RN @ self.image_N
        value_R = np.divide(blank_R, image_R, out=np.full_like(image_R, np.nan), where=image_R > 0)
        return float(value_R[0]) if weights_RN is None else value_R


def retention_of(records: Sequence[Mapping[str, Any]]) -> Retention | None:
    """`RETENTION` of a vqa task's records; None where no blank images were shown."""
    blank = [_exact(record["control_scores"].get(BLANK_IMAGE, {})) for record in records]
    image = [_exact(record["scores"]) for record in records]
    pairs = [
        (a, b) if _has_images(record) and a is not None and b is not None else None
        for record, a, b in zip(records, blank, image, strict=True)
    ]
    member_N = np.array([pair is not None for pair in pairs], bool)
    if not member_N.any():
        return None
    blank_N, image_N = np.array([pair or (0.0, 0.0) for pair in pairs], np.float64).T
    return Retention(blank_N, image_N, member_N)


def _has_images(record: Mapping[str, Any]) -> bool:
    return bool(record.get("images", 1))


def _exact(scores: Mapping[str, float | None]) -> float | None:
    """Whether an answer is right, by the one score that each answer type has for it."""
    names = (
        *("generated_accuracy", "letter_likelihood_accuracy", "normalised_likelihood_accuracy", "closed_accuracy"),
        *("number_accuracy", "set_exact_match", "exact_match"),
    )
    return next((scores[name] for name in names if scores.get(name) is not None), None)


def _is_same(record: Mapping[str, Any]) -> bool | None:
    answer = record.get("controls", {}).get(SHUFFLED_IMAGES)
    return None if answer is None else final_answer(record, record["prediction"]) == final_answer(record, answer)


def _claims(record: Mapping[str, Any]) -> bool | None:
    if str(record.get("language") or "en").lower()[:2] != "en":
        return None
    return claims_to_see(f"{record.get('reasoning', '')}\n{record['prediction']}")


# In words


def reliance_sentences(values: Sequence[MetricValue]) -> list[str]:
    """What the metrics of a vqa task say about the image, in words; nothing where no image control was run.

    The first sentence is the verdict. It rests on the visual reliance score: a model is said to use the image only if the
    score's interval lies above 0.
    """
    by_name = {value.name: value for value in values}
    score, sensitivity = by_name.get(VRS), by_name.get(SENSITIVITY)
    if score is None or sensitivity is None:
        return []
    sentences = [_verdict(score, sensitivity)]
    retention = by_name.get(RETENTION)
    if retention is not None and not np.isnan(retention.value):
        sentences.append(f"With blank images it keeps {_percent(retention.value)} of its accuracy.")
    claims, hallucinated = by_name.get(CLAIMS), by_name.get(HVRR)
    if claims is not None and hallucinated is not None and claims.value > 0:
        sentences.append(
            f"{_percent(claims.value)} of its responses claim to see something; {_percent(hallucinated.value)} of all responses "
            f"do so although the answer stays the same with another image (hallucinated visual reasoning)."
        )
    return sentences


def _verdict(score: MetricValue, sensitivity: MetricValue) -> str:
    interval = "" if np.isnan(score.ci_low) else f", 95% interval {score.ci_low:+.3f} to {score.ci_high:+.3f}"
    numbers = f"visual reliance score {score.value:+.3f}{interval}"
    changed = f"{_percent(sensitivity.value)} of {sensitivity.n} answers change with the image"
    if sensitivity.value == 0:
        return (
            f"This model ignores the image: none of its {sensitivity.n} answers changes when the image is exchanged for "
            f"another sample's."
        )
    if np.isnan(score.ci_low):
        return f"Whether this model uses the image is open, because there is no interval ({numbers}; {changed})."
    if score.ci_high < 0:
        return f"This model scores higher with other samples' images than with the right ones ({numbers}; {changed})."
    if score.ci_low > 0:
        return f"This model uses the image ({numbers}; {changed})."
    return (
        f"There is no sign that this model uses the image: other samples' images do it no harm ({numbers}; {changed})."
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or 0.01 <= share <= 0.99 or share >= 1 else f"{share:.1%}"
