"""Rules that samples have to meet before anything is trained on them. No tokenizer is needed here."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from medvlp.boxes.placeholders import box_faults
from medvlp.data.audit.problems import WARNINGS, Problem
from medvlp.data.chat.templates import split_thought
from medvlp.data.images.decode import open_image
from medvlp.data.texts import SourceTexts, text_id
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset
from medvlp.shards.vocabulary import ANSWER_TYPES, IMAGE_TOKEN, NUMBER_TYPES

UNKNOWN_LICENCES = ("", "unknown")
BLOCK = 256
"""Samples handed to the threads at once, so that results do not pile up."""


@dataclass(frozen=True)
class Rules:
    """What samples are for, which decides the rules that apply.

    content: "pairs" of an image and a caption, "labels" of an image, "conversations", or empty where it was not said what is
        trained on.
    texts: what captions are taken from.
    questions: instruct: captions of samples without conversations become answers.
    max_pixels: larger images are refused; 0 leaves images closed, for samples whose images were decoded before.
    several_images: a pair may have more than one image.
    """

    content: str
    texts: SourceTexts
    questions: bool
    max_pixels: int
    several_images: bool = False


@dataclass
class SampleAudit:
    """The problems of one sample by itself, and what is compared with other samples.

    images: sha256 of each. ids: of its conversations, where they have any. texts: numbers of its captions, equal for
    equal ones.
    """

    key: str
    problems: list[Problem] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)


def audit_sample(sample: Sample, rules: Rules) -> SampleAudit:
    """All that a sample shows by itself."""
    try:
        captions, fault = rules.texts.candidates(sample), None
    except BadSample as bad:
        captions, fault = [], bad
    problems = [*_images(sample, rules), *_words(sample, rules, fault)]
    if captions and rules.content == "pairs":
        problems += [Problem("missing_text", "", f"no {name}") for name in captions[0].missing]
    if str(sample.metadata.get("licence") or "").lower() in UNKNOWN_LICENCES:
        problems.append(Problem("missing_licence", "", f"licence is {sample.metadata.get('licence')!r}"))
    ids = []
    for number, conversation in enumerate([] if rules.content in ("pairs", "labels") else sample.conversations):
        name = conversation.id or str(number)
        faults = [*_conversation(conversation, len(sample.images)), *box_faults(conversation, len(sample.images))]
        problems += [Problem(kind, name, detail) for kind, detail in faults]
        ids += [conversation.id] if conversation.id else []
    hashes = [hashlib.sha256(data).hexdigest() for _, data in sorted(sample.images.items())]
    return SampleAudit(sample.key, problems, hashes, ids, [text_id(caption.text) for caption in captions])


def _images(sample: Sample, rules: Rules) -> Iterator[Problem]:
    if (
        rules.content in ("pairs", "labels")
        and len(sample.images) != 1
        and not (rules.several_images and sample.images)
    ):
        reason = "a pair has one" if rules.content == "pairs" else "one is classified"
        yield Problem("not_one_image", "", f"{len(sample.images)} images, {reason}")
    elif sample.conversations and not sample.images and not any(map(placeholders, sample.conversations)):
        yield Problem("no_image", "", "conversations about no image")
    for name, data in sorted(sample.images.items()):
        if name.endswith("nii.gz"):
            yield Problem("volume", "", f"{name} is a volume")
        elif rules.max_pixels:
            try:
                open_image(data, rules.max_pixels)
            except BadSample as bad:
                yield Problem(bad.reason, "", f"{name}: {bad.detail}")


def _words(sample: Sample, rules: Rules, fault: BadSample | None) -> Iterator[Problem]:
    """fault: why there is no caption, where there is none."""
    if rules.content == "pairs":
        if fault:
            yield Problem(fault.reason, "", fault.detail)
    elif (
        rules.content != "labels" and not sample.conversations and (fault or not (rules.questions or not rules.content))
    ):
        detail = f"no conversation, and {fault.detail}" if fault else "no conversation"
        yield Problem("no_conversation" if rules.content else "nothing_said", "", detail)


def placeholders(conversation: Conversation) -> int:
    """How often a conversation says that an image stands there."""
    return sum(turn.text.count(IMAGE_TOKEN) for turn in conversation.turns)


def _conversation(conversation: Conversation, images: int) -> Iterator[tuple[str, str]]:
    """(problem, detail): roles, placeholders, empty turns, then what is said of the answer."""
    roles = [turn.role for turn in conversation.turns]
    dialogue = roles[1:] if roles[:1] == ["system"] else roles
    if not dialogue or len(dialogue) % 2 or dialogue != ["user", "assistant"] * (len(dialogue) // 2):
        yield "bad_roles", f"roles are {', '.join(roles) or 'none'}"
    count = placeholders(conversation)
    misplaced = [
        str(n) for n, turn in enumerate(conversation.turns) if turn.role != "user" and IMAGE_TOKEN in turn.text
    ]
    if misplaced:
        yield "placeholder_count", f"{IMAGE_TOKEN} stands in turn {', '.join(misplaced)}, which is not the user's"
    elif count != images:
        yield "placeholder_count", f"{count} × {IMAGE_TOKEN} for {images} images"
    for number, turn in enumerate(conversation.turns):
        if turn.role == "assistant" and not turn.text.strip():
            yield "empty_answer", f"turn {number} is empty"
        elif turn.role == "user" and not turn.text.replace(IMAGE_TOKEN, "").strip():
            yield "empty_question", f"turn {number} is empty"
    mended = conversation.metadata.get("mended")
    for field_name in mended if isinstance(mended, list) else []:
        if f"mended_{field_name}" in WARNINGS:
            yield f"mended_{field_name}", "the preparation fixed it"
    if dialogue == ["user", "assistant"]:
        _, answer = split_thought(conversation.turns[-1].text)
        yield from _answer(answer.strip(), conversation.metadata)


def _answer(answer: str, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind = metadata.get("answer_type")
    if kind is None:
        yield "missing_answer_type", "there is no answer_type"
    elif kind not in ANSWER_TYPES:
        yield "unknown_answer_type", f"answer_type is {kind!r}; known are {', '.join(ANSWER_TYPES)}"
    elif kind == "open" and answer.lower().rstrip(".") in ("yes", "no"):
        yield "yes_no_under_open", f"the answer is {answer!r}, answer_type is open"
    elif kind == "multiple_choice":
        yield from _choice(answer, metadata)
    elif kind == "number":
        number_type = metadata.get("number_type", NUMBER_TYPES[0])
        if number_type not in NUMBER_TYPES or not re.search(r"\d", answer):
            yield "unreadable_number", f"the answer is {answer!r}, number_type is {number_type!r}"
    elif kind == "set":
        items = metadata.get("answer_set")
        if not isinstance(items, list) or not all(isinstance(item, str) and item.strip() for item in items):
            yield "incomplete_set", f"answer_set is {items!r}"


def _choice(answer: str, metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    options, letter, letters = (metadata.get(name) for name in ("options", "answer_letter", "answer_letters"))
    if isinstance(letters, list) and letters and isinstance(options, dict):
        if not all(isinstance(name, str) and name in options for name in letters):
            yield "incomplete_options", f"answer_letters is {letters!r}, options are {options!r}"
        return
    if not isinstance(options, dict) or not isinstance(letter, str) or letter not in options:
        yield "incomplete_options", f"answer_letter is {letter!r}, options are {options!r}"
    elif answer in ({*options, *options.values()} - {letter, options[letter]}) or not (
        answer.startswith((letter, f"({letter})")) or options[letter].casefold() in answer.casefold()
    ):
        yield "option_mismatch", f"the answer is {answer!r}, option {letter} is {options[letter]!r}"


class SourceAudit:
    """Compares the samples of one source with each other, and with images that are held out.

    Args:
        content: as in `Rules`.
        held_out: sha256 of an image → (split that holds it, key of its sample).
    """

    def __init__(self, content: str, held_out: Mapping[str, tuple[str, str]]) -> None:
        self.content, self.held_out = content, held_out
        self.images: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.texts: dict[int, str] = {}

    def problems(self, sample: SampleAudit) -> Iterator[Problem]:
        """Problems of the sample by itself, and of it with the samples before it. Of an image that occurs again, the first
        alone is compared with those that are held out, so that images are counted."""
        yield from sample.problems
        for image in sample.images:
            if image not in self.images and image in self.held_out:
                split, key = self.held_out[image]
                yield Problem("shared_image", "", f"also in {split}: {key}")
            if self.content == "pairs" and image in self.images:
                yield Problem("repeated_image", "", f"also in {self.images[image]}")
            self.images.setdefault(image, sample.key)
        for name in sample.ids:
            if name in self.ids:
                yield Problem("duplicate_id", name, f"also in {self.ids[name]}")
            self.ids.setdefault(name, sample.key)
        for text in sample.texts if self.content == "pairs" else []:
            if text in self.texts:
                yield Problem("repeated_text", "", f"as of {self.texts[text]}")
            self.texts.setdefault(text, sample.key)


def audit_shards(dataset: ShardDataset, rules: Rules, workers: int = 0) -> Iterator[SampleAudit]:
    """Every sample, in order; a sample that cannot be read is a problem by itself.

    Args:
        workers: threads (decoders let others run); 0 works in the caller's.
    """

    def audit_row(row: int) -> SampleAudit:
        try:
            return audit_sample(dataset.read(row), rules)
        except BadSample as bad:
            return SampleAudit(dataset.key(row), [Problem(bad.reason, "", bad.detail)])

    if not workers:
        yield from map(audit_row, range(len(dataset)))
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(dataset), BLOCK):
            yield from pool.map(audit_row, range(start, min(start + BLOCK, len(dataset))))


Watch = Callable[[str, int, Iterable[SampleAudit]], Iterable[SampleAudit]]
"""(source, its samples, their audits) → the audits, while a person sees how far it is."""


def audit_source(name: str, dataset: ShardDataset, rules: Rules, workers: int, watch: Watch) -> Iterator[Problem]:
    """Problems of a source's samples, by themselves and together.

    Raises:
        ShardError: a folder that cannot be read.
    """
    audit = SourceAudit(rules.content, {})
    for row, sample in enumerate(watch(name, len(dataset), audit_shards(dataset, rules, workers))):
        shard, _ = dataset.locate(row)
        for problem in audit.problems(sample):
            yield problem.at(name, str(dataset.folder / shard), sample.key)
