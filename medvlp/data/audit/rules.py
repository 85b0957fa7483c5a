"""What is wrong with data, seen before anything is trained on them. No tokenizer is needed here."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from medvlp.data.audit.problems import WARNINGS, Problem
from medvlp.data.chat.encoder import IMAGE
from medvlp.data.chat.templates import split_thought
from medvlp.data.images.decode import open_image
from medvlp.data.texts import text_id, texts_of
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset

ANSWER_TYPES = ("open", "closed", "multiple_choice")
UNKNOWN_LICENCES = ("", "unknown")
BLOCK = 256
"""Samples handed to the threads at once, so that results do not pile up."""


@dataclass(frozen=True)
class Rules:
    """What samples are for.

    content: "pairs" of an image and a caption, "conversations", or empty where it was not said what is trained on.
    texts: fields that captions are taken from.
    questions: instruct: captions of samples without conversations become answers.
    max_pixels: larger images are refused; 0 leaves images closed, for samples whose images were decoded before.
    """

    content: str
    texts: Sequence[str]
    questions: bool
    max_pixels: int


@dataclass
class Seen:
    """What one sample showed.

    images: sha256 of each. ids: of its conversations, where they have any. texts: numbers of its captions, equal for
    equal ones.
    """

    key: str
    problems: list[Problem] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)


def look(sample: Sample, rules: Rules) -> Seen:
    """All that a sample shows by itself."""
    captions = list(texts_of(sample, rules.texts).values())
    problems = [*_images(sample, rules), *_words(sample, rules, bool(captions))]
    if str(sample.metadata.get("licence") or "").lower() in UNKNOWN_LICENCES:
        problems.append(Problem("missing_licence", "", f"licence is {sample.metadata.get('licence')!r}"))
    ids = []
    for number, conversation in enumerate([] if rules.content == "pairs" else sample.conversations):
        name = conversation.id or str(number)
        problems += [Problem(kind, name, detail) for kind, detail in _conversation(conversation, len(sample.images))]
        ids += [conversation.id] if conversation.id else []
    hashes = [hashlib.sha256(data).hexdigest() for _, data in sorted(sample.images.items())]
    return Seen(sample.key, problems, hashes, ids, [text_id(text) for text in captions])


def _images(sample: Sample, rules: Rules) -> Iterator[Problem]:
    if rules.content == "pairs" and len(sample.images) != 1:
        yield Problem("not_one_image", "", f"{len(sample.images)} images, a pair has one")
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


def _words(sample: Sample, rules: Rules, has_caption: bool) -> Iterator[Problem]:
    fields = ", ".join(rules.texts)
    if rules.content == "pairs":
        if not has_caption:
            yield Problem("empty_caption", "", f"no text in {fields}")
    elif not sample.conversations and not (has_caption and (rules.questions or not rules.content)):
        found = "no conversation" if has_caption else f"neither a conversation nor a text in {fields}"
        yield Problem("no_conversation" if rules.content else "nothing_said", "", found)


def placeholders(conversation: Conversation) -> int:
    """How often a conversation says that an image stands there."""
    return sum(turn.text.count(IMAGE) for turn in conversation.turns)


def _conversation(conversation: Conversation, images: int) -> Iterator[tuple[str, str]]:
    """(problem, detail): roles, placeholders, empty turns, then what is said of the answer."""
    roles = [turn.role for turn in conversation.turns]
    asked = roles[1:] if roles[:1] == ["system"] else roles
    if not asked or len(asked) % 2 or asked != ["user", "assistant"] * (len(asked) // 2):
        yield "bad_roles", f"roles are {', '.join(roles) or 'none'}"
    found = placeholders(conversation)
    misplaced = [str(n) for n, turn in enumerate(conversation.turns) if turn.role != "user" and IMAGE in turn.text]
    if misplaced:
        yield "placeholder_count", f"{IMAGE} stands in turn {', '.join(misplaced)}, which is not the user's"
    elif found != images:
        yield "placeholder_count", f"{found} × {IMAGE} for {images} images"
    for number, turn in enumerate(conversation.turns):
        if turn.role == "assistant" and not turn.text.strip():
            yield "empty_answer", f"turn {number} is empty"
        elif turn.role == "user" and not turn.text.replace(IMAGE, "").strip():
            yield "empty_question", f"turn {number} is empty"
    mended = conversation.metadata.get("mended")
    for what in mended if isinstance(mended, list) else []:
        if f"mended_{what}" in WARNINGS:
            yield f"mended_{what}", "the preparation mended it"
    if asked == ["user", "assistant"]:
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
        options, letter = metadata.get("options"), metadata.get("answer_letter")
        if not isinstance(options, dict) or not isinstance(letter, str) or letter not in options:
            yield "incomplete_options", f"answer_letter is {letter!r}, options are {options!r}"
        elif answer in ({*options, *options.values()} - {letter, options[letter]}) or not (
            answer.startswith((letter, f"({letter})")) or options[letter].casefold() in answer.casefold()
        ):
            yield "option_mismatch", f"the answer is {answer!r}, option {letter} is {options[letter]!r}"


class Together:
    """What samples of one source share, with each other and with images that are held out.

    Args:
        content: as in `Rules`.
        held_out: sha256 of an image → (where it is, key of its sample).
    """

    def __init__(self, content: str, held_out: Mapping[str, tuple[str, str]]) -> None:
        self.content, self.held_out = content, held_out
        self.images: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.texts: dict[int, str] = {}

    def problems(self, seen: Seen) -> Iterator[Problem]:
        """Problems of the sample and of it beside those before it. Of an image that occurs again, it is held against the
        first alone that others hold it too, so that images are counted."""
        yield from seen.problems
        for image in seen.images:
            if image not in self.images and image in self.held_out:
                place, key = self.held_out[image]
                yield Problem("shared_image", "", f"also in {place}: {key}")
            if self.content == "pairs" and image in self.images:
                yield Problem("repeated_image", "", f"also in {self.images[image]}")
            self.images.setdefault(image, seen.key)
        for name in seen.ids:
            if name in self.ids:
                yield Problem("duplicate_id", name, f"also in {self.ids[name]}")
            self.ids.setdefault(name, seen.key)
        for text in seen.texts if self.content == "pairs" else []:
            if text in self.texts:
                yield Problem("repeated_text", "", f"as of {self.texts[text]}")
            self.texts.setdefault(text, seen.key)


def look_at_shards(dataset: ShardDataset, rules: Rules, workers: int = 0) -> Iterator[Seen]:
    """Every sample, in order; a sample that cannot be read is a problem by itself.

    Args:
        workers: threads (decoders let others run); 0 works in the caller's.
    """

    def one(row: int) -> Seen:
        try:
            return look(dataset.read(row), rules)
        except BadSample as bad:
            return Seen(dataset.key(row), [Problem(bad.reason, "", bad.detail)])

    if not workers:
        yield from map(one, range(len(dataset)))
        return
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(dataset), BLOCK):
            yield from pool.map(one, range(start, min(start + BLOCK, len(dataset))))
