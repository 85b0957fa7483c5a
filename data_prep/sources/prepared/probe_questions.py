"""Questions about what is shown, each with one about something that is not: from the labels of any prepared folder.

For each finding that a sample is labelled with, a question whose answer is yes, and an adversarial one about a finding that it
does not have, whose answer is no; the two are a pair (`pair_id`), and count where both are answered right. This is the way of
ProbMed (Yan et al. 2024); its questions about positions need positions, and are not made here.

A label that is a text is one class; a list is complete: what is not in it is absent; of 1, 0, -1 and null of each class, 1 is
present and 0 absent, and the others ask nothing. Labels are as good as who made them: where a list is not complete, an
adversarial question has a wrong answer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from data_prep.errors import PrepError
from data_prep.readers.checked_yaml import CheckedFile
from data_prep.source import Dropped, Options
from data_prep.sources.prepared.folders import PreparedSource, name_of
from medvlp.shards import Conversation, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

PLACEHOLDER = "{finding}"
ABSENT_RULES = ("random", "frequent")


@dataclass(frozen=True)
class ProbeOptions(Options):
    """Options of the source probe_questions."""

    labels: tuple[str, ...] = ()
    """Labels (or metadata) that are asked about, e.g. [modality,concepts]."""
    question: str = "Does this image show {finding}?"
    """The question, with {finding}."""
    names: str = ""
    """A YAML file: class → its name in questions. What it does not name is not asked about. Empty: classes are names."""
    absent: str = "random"
    """Which finding the adversarial question is about: random (each class that is absent alike), or frequent (the commonest in
    the split that is)."""
    most: int = 0
    """Pairs of a sample and label at most; 0: all."""
    seed: int = 0
    """Of the choice, which depends besides on the sample's key alone."""


class ProbeQuestions(PreparedSource):
    """Reader of a prepared folder with labels. Raises PrepError: no labels, or options that name none."""

    name = "probe_questions"
    description = "pairs of questions about present and absent findings, from the labels of a prepared folder"
    page = "docs/data.md#questions-from-labels"
    files = "a folder that medvlp prep wrote, whose samples have labels"
    option_type = ProbeOptions
    choices: ProbeOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        choices = self.choices
        if not choices.labels:
            raise PrepError("options.labels is empty; name the labels to ask about, e.g. options.labels=[modality]")
        if choices.question.count(PLACEHOLDER) != 1:
            raise PrepError(f"options.question={choices.question!r}, expected one {PLACEHOLDER} in it")
        if choices.absent not in ABSENT_RULES:
            raise PrepError(f"options.absent={choices.absent}, expected one of {', '.join(ABSENT_RULES)}")
        if choices.most < 0:
            raise PrepError(f"options.most={choices.most}, expected 0 or more")
        self.names = _names(Path(choices.names)) if choices.names else {}

    def options(self) -> dict[str, Any]:
        """All choices; of the file of names its content."""
        choices = self.choices
        return super().options() | {
            "labels": list(choices.labels),
            "question": choices.question,
            "names": self.names,
            "absent": choices.absent,
            "most": choices.most,
            "seed": choices.seed,
        }

    def made_of(self, sample: Sample, split: str) -> Sample | Dropped:
        """The sample with its questions instead of texts, labels and conversations it had.

        Drops: no_image, nothing_asked.
        """
        if not sample.images:
            return Dropped(name_of(sample), "no_image", "the sample has no image to ask about")
        conversations = [
            conversation for label in self.choices.labels for conversation in self._pairs(sample, label, split)
        ]
        if not conversations:
            labels = ", ".join(self.choices.labels)
            return Dropped(
                name_of(sample), "nothing_asked", f"{labels}: no finding that is present, with one that is not"
            )
        sample.conversations, sample.texts = conversations, {}
        return sample

    def _pairs(self, sample: Sample, label: str, split: str) -> list[Conversation]:
        """Two conversations a finding: yes, then no."""
        present, absent = present_and_absent(
            sample.labels.get(label, sample.metadata.get(label)), list(self._classes[label, split])
        )
        findings = [finding for finding in present if self._name(finding)]
        if len(findings) < len(present):
            self.counts["read", f"findings of {label} without a name"] += len(present) - len(findings)
        pairs: list[Conversation] = []
        used: set[str] = {self._name(finding).casefold() for finding in present}
        for finding in findings[: self.choices.most or None]:
            candidates = [name for name in absent if self._name(name) and self._name(name).casefold() not in used]
            if not candidates:
                self.counts["read", f"findings of {label} without one that is absent"] += 1
                continue
            adversary = self._chosen(sample.key, label, finding, candidates, split)
            used.add(self._name(adversary).casefold())
            number = f"{label}-{len(pairs) // 2}"
            pair = f"{sample.key}#{number}"
            pairs += [
                self._conversation(sample, f"{number}-present", finding, "yes", label, pair),
                self._conversation(sample, f"{number}-absent", adversary, "no", label, pair),
            ]
        return pairs

    def _chosen(self, key: str, label: str, finding: str, candidates: Sequence[str], split: str) -> str:
        counts = self._classes[label, split]
        order = {
            name: hashlib.sha256("\0".join([str(self.choices.seed), key, label, finding, name]).encode()).digest()
            for name in candidates
        }
        if self.choices.absent == "frequent":
            return min(candidates, key=lambda name: (-counts[name], order[name]))
        return min(candidates, key=lambda name: order[name])

    def _conversation(self, sample: Sample, id: str, finding: str, answer: str, label: str, pair: str) -> Conversation:
        question = self.choices.question.replace(PLACEHOLDER, self._name(finding))
        metadata = {
            "answer_type": "closed",
            "language": "en",
            "question_type": label,
            "finding": finding,
            "pair_id": pair,
            "probe": "present" if answer == "yes" else "absent",
        }
        images = f"{IMAGE_TOKEN}\n" * len(sample.images)
        return Conversation([Turn("user", images + question), Turn("assistant", answer)], id, metadata)

    def _name(self, finding: str) -> str:
        """The finding's name in questions; empty where it has none."""
        return self.names.get(finding, "") if self.names else finding.strip()

    @cached_property
    def _classes(self) -> Mapping[tuple[str, str], Counter[str]]:
        """(label, split) → class → samples of the split that have it; classes of all splits."""
        counts = {(label, split): Counter[str]() for label in self.choices.labels for split in self.splits}
        for split in self.splits:
            for sample in self.samples(split):
                for label in self.choices.labels:
                    value = sample.labels.get(label, sample.metadata.get(label))
                    counts[label, split].update(present_and_absent(value, [])[0])
                    if isinstance(value, Mapping):
                        counts[label, split].update(dict.fromkeys(map(str, value), 0))
        for label in self.choices.labels:
            names = sorted({name for split in self.splits for name in counts[label, split]})
            if not names:
                raise PrepError(f"options.labels: no sample of {self.folder} has a label or metadata {label!r}")
            for split in self.splits:
                counts[label, split] = Counter({name: counts[label, split][name] for name in names})
        return counts


def present_and_absent(value: Any, classes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The classes that a label says to be present, in its order, and those that it says to be absent.

    value: one class, a list of those that are present, or class → 1, 0, -1 (uncertain), null (not stated). Of anything else,
    and of "unknown" or nothing, neither is known. classes: all that there are.
    """
    if isinstance(value, Mapping):
        present = [str(name) for name, state in value.items() if state == 1]
        return present, [str(name) for name, state in value.items() if state == 0 and state is not False]
    if isinstance(value, str):
        value = [value] if value.strip() and value != "unknown" else []
        if not value:
            return [], []
    if not isinstance(value, list) or not all(isinstance(name, str | int) for name in value):
        return [], []
    present = list(dict.fromkeys(map(str, value)))
    return present, [name for name in classes if name not in present]


def _names(path: Path) -> dict[str, str]:
    """Raises PrepError: no file, no YAML, or not class → name."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PrepError(
            f"options.names={path}: {str(error).splitlines()[0]}; expected a YAML file of class: name"
        ) from None
    checked = CheckedFile(path, content, ())
    return {key: checked.text(value, key) for key, value in checked.content.items()}
