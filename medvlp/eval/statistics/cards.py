"""Protocol cards: the lines of a protocol that two results must share for their numbers to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Protocol = Mapping[str, Any]

COMMON = (
    "kind",
    "version",
    "split",
    "split_hash",
    "tie_rule",
    "bootstrap.method",
    "bootstrap.level",
    "bootstrap.cluster",
)
"""Lines that decide for every kind of task: the data, the code of the task, and what an interval means."""

DECIDING: dict[str, tuple[str, ...]] = {
    "zero_shot": ("label", "classes", "exclude", "templates", "probabilities", "auroc"),
    "classification": (
        "label",
        "classes",
        "multi_label",
        "exclude",
        "uncertain",
        "threshold_choice",
        "probabilities",
        "auroc",
    ),
    "probe": (
        *("label", "classes", "exclude", "multi_label", "fitted_on.split_hash", "chosen_on.split_hash"),
        *("embeddings", "search", "choice", "probabilities", "auroc", "few_shot.draws", "few_shot.seed"),
    ),
    "multi_label": ("label", "classes", "exclude", "method", "templates", "negative_templates", "logits", "auroc"),
    # A rank depends on the whole gallery.
    "retrieval": ("text", "texts", "n", "unique_n", "pairs", "excluded", "bad"),
    **dict.fromkeys(
        ("text_retrieval", "composed_retrieval"),
        (
            *(
                "query",
                "text",
                "n",
                "candidates",
                "relevance",
                "relevant_from",
                "gain",
                "skipped",
                "composition",
                "change",
            ),
            *("excluded", "bad"),
        ),
    ),
    "text": ("references", "source", "shows_images", "instruction", "decoding", "prompting", "tokenization", "scorers"),
    "vqa": ("instruction", "languages", "decoding", "prompting", "scorers"),
    "error_check": ("instruction", "languages", "decoding", "prompting", "bert_baseline", "scorers"),
}
"""Kind of task → the lines that decide besides."""

JUDGE = tuple(
    f"judge.{name}" for name in ("model", "identity", "rubric", "prompt", "context", "decoding", "images", "flag")
)
"""Lines of a judge, which decide where both results have one; its metrics are missing in the other where one has none."""

PROMPTS = ("templates", "instruction", "decoding", "prompting")
"""Lines that do not decide where both results chose them from the same prompt sets by the same rule."""

NOTED = (
    "prompt_sets",
    "n",
    "samples",
    "excluded",
    "bad",
    "limit",
    "images",
    "penalties",
    "controls",
    "omitted",
    "bootstrap.resamples",
    "bootstrap.seed",
)
"""Lines that are named where they differ, and do not decide: items that only one result has fall out of a comparison, and
intervals of differences are computed again."""

LONGEST = 60
"""Characters of a value in a sentence."""


@dataclass(frozen=True)
class Difference:
    """A line on which two cards differ."""

    line: str
    a: Any
    b: Any
    decides: bool

    @property
    def sentence(self) -> str:
        """`templates: ["{}"] against ["a photo of {}"]`."""
        if isinstance(self.a, Mapping) and isinstance(self.b, Mapping):
            names = [name for name in {**self.a, **self.b} if self.a.get(name) != self.b.get(name)]
            parts = [f"{name} {_short(self.a.get(name))} against {_short(self.b.get(name))}" for name in names[:3]]
            return f"{self.line}: {', '.join(parts)}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return f"{self.line}: {_short(self.a)} against {_short(self.b)}"


def card(protocol: Protocol) -> dict[str, Any]:
    """Line → value, of those that decide and those that are noted; null where the protocol does not state it."""
    kind = str(protocol.get("kind"))
    of_judge = JUDGE if protocol.get("judge") else ()
    lines = dict.fromkeys((*COMMON, *DECIDING.get(kind, ()), *of_judge, *NOTED))
    return {line: _value(protocol, line) for line in lines}


def differences(a: Protocol, b: Protocol) -> list[Difference]:
    """The lines on which two protocols differ: those that decide first."""
    are_chosen_alike = bool(a.get("prompt_sets")) and _choice(a) == _choice(b)
    deciding = [
        line for line in (*COMMON, *DECIDING.get(str(a.get("kind")), ())) if not (line in PROMPTS and are_chosen_alike)
    ]
    deciding += JUDGE[:-1] if a.get("judge") and b.get("judge") else ()
    cards = card(a), card(b)
    lines = [line for line in {**cards[0], **cards[1]} if cards[0].get(line) != cards[1].get(line)]
    unequal = [Difference(line, cards[0].get(line), cards[1].get(line), line in deciding) for line in lines]
    return sorted(unequal, key=lambda difference: not difference.decides)


def _choice(protocol: Protocol) -> tuple[Any, str]:
    """The prompt sets, and the rule by which one was chosen, without the values that it had."""
    return protocol.get("prompt_sets"), str(protocol.get("prompt_set_chosen")).partition(":")[0]


def _value(protocol: Protocol, line: str) -> Any:
    value: Any = protocol
    for name in line.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if line == "controls" and isinstance(value, Mapping):
        return sorted(name for name in value if name not in ("constants", "exchanged_for_an_equal_image"))
    if line == "omitted" and isinstance(value, Mapping):
        return sorted(value)
    return value if value not in ({}, [], "") else None


def _short(value: Any) -> str:
    text = "not stated" if value is None else repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
