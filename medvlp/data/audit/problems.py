"""Problems of data: their names, how grave each is, and how to fix it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medvlp.jsonl import encode_row
from medvlp.shards.atomic import whole_file

_PREPARE_AGAIN = "fix what the sample was made from, and prepare it again"
_DAMAGED = "`medvlp verify` says what is damaged; restore the file, or prepare the data again"

ERRORS = {
    "bad_boxes": "write boxes as [left, top, right, bottom], shares of the image's sides, 0 <= left < right <= 1, top likewise",
    "bad_roles": "user and assistant take turns, after at most one system turn; the assistant has the last word",
    "box_count": "write <box> once for each of the conversation's boxes, in their order",
    "broken_index": _DAMAGED,
    "broken_json": _PREPARE_AGAIN,
    "broken_text": _PREPARE_AGAIN,
    "checksum_mismatch": _DAMAGED,
    "deep_colour": "scale the image to 8 bits a colour; what reads it as it is sees black",
    "empty_answer": "give the answer, or take the conversation away",
    "contradictory_labels": "correct the labels; next to a finding, one says that there is none",
    "empty_caption": "data.sources.<name>.text_fields (or .text_templates, .label_captions) says what is trained on; skip others",
    "extreme_aspect": "crop or tile the strip; towers resize its shorter side to hundreds of pixels",
    "missing_field": "give the conversation's metadata what data.sources.<name>.question_template or .answer_template names",
    "missing_image": "put the file where the entry says, or take the entry away",
    "missing_member": _PREPARE_AGAIN,
    "missing_shard": _DAMAGED,
    "no_conversation": "set data.sources.<name>.caption_prompts to train on captions, or take these samples away",
    "no_system_turn": "set model.language.system=merge (it goes before the first question) or drop",
    "not_one_image": "set data.sources.<name>.several_images, train with objective=instruct, or prepare one image a sample",
    "no_template": "add a sentence that can be filled to the file of data.sources.<name>.label_templates",
    "nothing_left": "raise objective.max_length, or fix the data",
    "nothing_said": "prepare the data with a caption or a conversation for each sample",
    "nothing_supervised": "give the answer, or take the conversation away",
    "placeholder_count": "write <image> once for each image into the user's turns, and nowhere else",
    "several_frames": "give each frame a file of its own",
    "special_token_in_text": "take it out of the text; it would steer the model",
    "thoughts_not_chosen": "set model.language.thoughts=dropped, kept (read, not trained on) or supervised",
    "too_many_pixels": "make the image smaller; or raise data.max_pixels, if you know where it comes from",
    "truncated_shard": _DAMAGED,
    "unknown_class": "correct the label, or add it to the classes of the head, or to its exclude (`*`: all others)",
    "unclear_label": "give the label words under `labels` in the file of data.sources.<name>.label_templates",
    "undecodable_image": "get the publisher's file again; JPEG, PNG and WebP are read",
    "unreadable_input": "fix the file where the message says",
    "unreadable_label": "one name, or with kind: multi_label a list of names, or a mapping class: 1, 0, -1 or null",
    "volume": "prepare its slices as images; training takes no volumes",
    "wrong_supervision": "choose another model.language.template",
}
"""Training refuses these, or cannot use the sample."""

WARNINGS = {
    "shared_image": "scores on images that were trained on flatter: `medvlp eval` gives them apart, and preparing with "
    "duplicates=drop takes their copies out of train",
    "absent_class": "take the class out, or train on data that show it",
    "no_label": "nothing to do where they are meant to be skipped; else give them the label that a head reads",
    "no_image": "nothing to do where text alone is meant; else name the image in the entry",
    "ignored_fields": "nothing reads them; rename one that should count (the source's help names what is read)",
    "repeated_text": "they are negatives of each other, as in CLIP; objective.same_text=masked, mil_nce or apart changes that",
    "repeated_image": "two pairs of one image in a batch count as negatives of each other; keep one of them",
    "missing_text": "nothing to do where another text is there instead, or a template has the field in brackets",
    "too_long": "raise objective.max_length, or accept that these answers are skipped",
    "incomplete_options": "give options {letter: text} and answer_letter (or answer_letters, where several are right); multiple "
    "choice cannot be scored without",
    "incomplete_set": "give answer_set, the list of right items ([] for none); a set cannot be scored without",
    "unreadable_number": "give the number as the answer, and number_type decimal, integer, date or weeks",
    "unknown_answer_type": "use open, closed, multiple_choice, number or set, by which answers are scored",
    "option_mismatch": "look which of the two is right",
    "duplicate_id": "answers are told apart by it in evaluation; give each question an id of its own",
    "empty_question": "ask something, unless the answer is a caption",
    "yes_no_under_open": "probably closed; open answers are scored by their words",
    "missing_answer_type": "give answer_type (open, closed, multiple_choice, number, set), by which answers are scored",
    "mended_image_folder": "nothing to do; the images are in images/ next to the file",
    "mended_image_key": "nothing to do, if the field named is the image's",
    "mended_placeholders": "nothing to do; one <image> for each image went before the first question",
    "mended_conversatons": "nothing to do; the publisher's key is misspelt",
    "mended_numbers": "nothing to do; numbers were made texts",
    "missing_licence": "find out whether the data may be used, and say so in the metadata's licence",
}
"""Training goes on with these. The first matter most; the last are what a publisher's data are like."""


def rank(name: str) -> int:
    """Position of a problem in a list: errors have 0, warnings count from what matters most."""
    return list(WARNINGS).index(name) + 1 if name in WARNINGS else 0


FIX_ENTRY = "fix the entry; `medvlp prep` drops it"
"""Advice for whatever else a reader of a publisher's files refuses."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a sample, by one of the names above or a reader's own.

    conversation: its id, or its number in the sample; empty for all of it. source: the name in data.sources, or of a reader.
    file: the shard, or what was read. key: of the sample. A rule knows name, conversation and detail only.
    """

    name: str
    conversation: str
    detail: str
    source: str = ""
    file: str = ""
    key: str = ""

    def at(self, source: str, file: str, key: str) -> "Problem":
        """The problem with its place."""
        return replace(self, source=source, file=file, key=key)

    @property
    def severity(self) -> str:
        """error or warning."""
        return "warning" if self.name in WARNINGS else "error"

    @property
    def advice(self) -> str:
        """How to fix it."""
        return WARNINGS.get(self.name) or ERRORS.get(self.name) or FIX_ENTRY

    @property
    def location(self) -> tuple[str, str, str]:
        """Which conversation of which sample of which source."""
        return self.source, self.key, self.conversation

    def row(self) -> dict[str, str]:
        """As a line of findings.jsonl."""
        location = {"source": self.source, "file": self.file, "key": self.key, "conversation": self.conversation}
        return {"severity": self.severity, "problem": self.name, **location, "detail": self.detail}


FINDINGS = "findings.jsonl"


@contextmanager
def findings_file(folder: str) -> Iterator[Callable[[dict[str, str]], None]]:
    """A function that writes a row to <folder>/findings.jsonl, or does nothing without a folder."""
    if not folder:
        yield lambda row: None
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with whole_file(Path(folder) / FINDINGS) as file:
        yield lambda row: (file.write(encode_row(row)), None)[1]


@dataclass
class ProblemCounts:
    """Problems by severity and name, each with the first; every one goes to `write`."""

    write: Callable[[dict[str, str]], None]
    first: dict[tuple[str, str], Problem] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    errors: set[tuple[str, str, str]] = field(default_factory=set)
    """The location of every error."""

    def add(self, problem: Problem) -> None:
        """Count it."""
        kind = (problem.severity, problem.name)
        self.first.setdefault(kind, problem)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if problem.severity == "error":
            self.errors.add(problem.location)
        self.write(problem.row())

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Count each of them."""
        for problem in problems:
            self.add(problem)

    def total(self, severity: str) -> int:
        """Problems of one severity."""
        return sum(count for (kind, _), count in self.counts.items() if kind == severity)
