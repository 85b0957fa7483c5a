"""Conversations in LLaVA's form (Liu et al. 2023), as LLaVA-Med, Quilt-Instruct and PubMedVision publish theirs.

    {"id": ..., "image": "a.jpg" | ["a.jpg", "b.jpg"], "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}

input is a .json file with a list of such entries, or a .jsonl file with one a line. Images are named relative to the
file's folder, or to `flag=<folder>`: a path below the file's folder, or an absolute one. The file's name tells the split
(`val.json`, `slake_test.jsonl`); without such a word it is train.

What publishers do differently is mended, and the conversation's metadata says so under "mended":

    conversatons   the key as LLaVA-Med's question files spell it
    numbers        a value that is a number, as answers in LLaVA-Med's question files can be
    placeholders   no `<image>` although there are images (PubMedVision): one for each goes before the first question

Anything else that does not fit is a named drop; see `LlavaJson.rows`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.sources.base import Dropped, PrepError
from data_prep.sources.files import (
    MAX_TEXT,
    BadRow,
    as_text,
    check_utf8,
    described,
    read_json_lines,
    read_json_list,
    text_of,
)
from data_prep.sources.questions import IMAGE, Asked, Gathered, QuestionFolder, parse_rows
from medvlp.shards import Conversation, Sample, Turn, make_key

ROLES = {"system": "system", "human": "user", "gpt": "assistant"}
SPLIT_WORDS = {"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid"} | {
    "validate": "valid",
    "test": "test",
}
MAX_IMAGES = 64
"""Of an entry: all are in memory at once. The longest studies in such files have about ten."""

KEPT = ("question_type", "answer_type", "language", "pair_id", "rationale")
"""Texts of an entry that go into the conversation's metadata."""


class LlavaJson(QuestionFolder):
    """Reader of a LLaVA-style file. Raises PrepError if it is no such file, or the image folder does not exist."""

    name = "llava_json"
    licence = "unknown"
    """The form has no place for it."""

    def __init__(self, input: str, samples_per_shard: int = 1000, flag: str = "") -> None:
        super().__init__(input, samples_per_shard)
        self.file = Path(input)
        if self.file.suffix not in (".json", ".jsonl") or not self.file.is_file():
            raise PrepError(
                f"input={input or '(not given)'} is not a .json or .jsonl file; give the file with the conversations"
            )
        self.folder = self.file.parent
        self.images = self.folder / flag
        if not self.images.is_dir() or ".." in Path(flag).parts:
            raise PrepError(
                f"flag={flag} is not a folder below {self.folder}; give the image folder as a path below the file's "
                "folder, or as an absolute path"
            )
        self.splits = (split_of(self.file.stem),)

    def tables(self) -> list[Path]:
        """The file."""
        return [self.file]

    def rows(self, split: str) -> Iterator[Asked | Dropped]:
        """Drops, whose detail names the key.

        bad_row, bad_json, line_too_long, not_utf8, bad_id; missing_conversations, bad_conversations,
        empty_conversations, missing_role, unknown_role, turn_order, missing_value, bad_value, long_value, empty_value;
        bad_image, too_many_images, placeholder_count; and from reading images: bad_path, missing_image,
        image_too_large, image_format.
        """
        is_list = self.file.suffix == ".json"
        entries = read_json_list(self.file) if is_list else read_json_lines(self.file)
        return parse_rows(self.file, entries, "id", _row, "entry" if is_list else "line")

    def sample(self, split: str, rows: Gathered, images: dict[str, bytes]) -> Sample:
        """As of the other sets, but many data sets come in this form: the key names the file too."""
        sample = super().sample(split, rows, images)
        first = rows[0]
        sample.key = make_key(self.name, self.file.stem, first.image_id, split)
        if len(first.images) > 1:
            sample.metadata["original_names"] = list(first.images)
        if not first.images:
            sample.metadata = {**sample.metadata, "group_kind": "entry", "original_name": first.name}
            del sample.metadata["image_id"]
        return sample


def split_of(stem: str) -> str:
    """The split that a word of a file's name tells: `pvqa_val_2` → valid, `latest` → train."""
    words = re.split("[^a-z]+", stem.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "train")


def _row(name: str, entry: dict[str, Any]) -> Asked:
    mended: list[str] = []
    images = _images(entry)
    turns = _turns(entry, mended)
    _match_placeholders(turns, len(images), mended)
    id = next((text_of(entry, key) for key in ("id", "question_id") if entry.get(key) is not None), None)
    kinds = {key: text for key in KEPT if (text := _text_or_none(entry, key))}
    if "answer_type" in kinds:
        kinds["answer_type"] = kinds["answer_type"].lower()
    box = _box(entry)
    known = {**kinds, **({"box": box} if box else {}), **({"mended": mended} if mended else {})}
    conversation = Conversation(turns, id, known)
    about = {"modality": _modality(entry), "organ": _text_or_none(entry, "body_part")}
    return Asked(
        name, images, "+".join(images) or name, conversation, {key: value for key, value in about.items() if value}
    )


def _images(entry: dict[str, Any]) -> tuple[str, ...]:
    value = entry.get("image")
    names = value if isinstance(value, list) else [] if value is None else [value]
    if len(names) > MAX_IMAGES:
        raise BadRow("too_many_images", f"image names {len(names)}, at most {MAX_IMAGES} become one sample")
    for position, image in enumerate(names):
        where = f"image[{position}]" if isinstance(value, list) else "image"
        if not isinstance(image, str) or not image:
            raise BadRow("bad_image", f"{where} is {str(image)[:80]!r}, expected the name of a file")
        check_utf8(image, where)
    return tuple(names)


def _turns(entry: dict[str, Any], mended: list[str]) -> list[Turn]:
    key = "conversations"
    if key not in entry and "conversatons" in entry:
        key = "conversatons"
        mended.append(key)
    said = entry.get(key)
    if said is None:
        raise BadRow("missing_conversations", f"{key} is {'null' if key in entry else 'missing'}")
    if not isinstance(said, list):
        raise BadRow("bad_conversations", f"{key} is a {type(said).__name__}, expected a list of turns")
    if not said:
        raise BadRow("empty_conversations", f"{key} is an empty list")
    turns = [_turn(turn, f"{key}[{position}]", mended) for position, turn in enumerate(said)]
    _check_order([turn.role for turn in turns], key)
    return turns


def _turn(turn: Any, where: str, mended: list[str]) -> Turn:
    if not isinstance(turn, dict):
        raise BadRow("bad_conversations", f"{where} is a {type(turn).__name__}, expected an object with from and value")
    role, value = turn.get("from"), turn.get("value")
    if role is None:
        raise BadRow("missing_role", f"{where}.from is {'null' if 'from' in turn else 'missing'}")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRow("unknown_role", f"{where}.from is {str(role)[:80]!r}, expected one of {', '.join(ROLES)}")
    if value is None:
        raise BadRow("missing_value", f"{where}.value is {'null' if 'value' in turn else 'missing'}")
    text = as_text(value)
    if text is None:
        raise BadRow("bad_value", f"{where}.value is {described(value)}, expected a text")
    if len(text) > MAX_TEXT:
        raise BadRow("long_value", f"{where}.value has {len(text)} characters, at most {MAX_TEXT} are read")
    if not isinstance(value, str) and "numbers" not in mended:
        mended.append("numbers")
    if not check_utf8(text, f"{where}.value").strip():
        raise BadRow("empty_value", f"{where}.value is empty")
    if role != "human" and IMAGE in text:
        raise BadRow("placeholder_count", f"{where}.value holds {IMAGE}, which only turns from human may")
    return Turn(ROLES[role], text)


def _check_order(roles: list[str], key: str) -> None:
    """system, if at all, first; then user and assistant in turn, the assistant last: what chat templates take."""
    start = 1 if roles[0] == "system" else 0
    for position, role in enumerate(roles[start:], start):
        expected = ("user", "assistant")[(position - start) % 2]
        if role != expected:
            raise BadRow("turn_order", f"{key}[{position}] is from the {role}, expected the {expected}")
    if roles[-1] != "assistant":
        raise BadRow("turn_order", f"{key} ends with the {roles[-1]}, expected an answer of the assistant")


def _match_placeholders(turns: list[Turn], images: int, mended: list[str]) -> None:
    found = sum(turn.text.count(IMAGE) for turn in turns)
    if found == 0 and images:
        question = next(turn for turn in turns if turn.role == "user")
        question.text = f"{IMAGE}\n" * images + question.text
        mended.append("placeholders")
    elif found != images:
        raise BadRow("placeholder_count", f"{found} {IMAGE} in the conversation, but image names {images}")


def _text_or_none(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return check_utf8(value, key).strip() if isinstance(value, str) else None


def _box(entry: dict[str, Any]) -> list[float]:
    """The region that an entry is about: [left, top, right, bottom] as shares of the image's width and height."""
    box = entry.get("box")
    if box is None:
        return []
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(side) in (int, float) and 0 <= side <= 1 for side in box)
    ):
        raise BadRow("bad_box", f"box is {str(box)[:80]}, expected [left, top, right, bottom], each from 0 to 1")
    return [float(side) for side in box]


def _modality(entry: dict[str, Any]) -> str | None:
    """PubMedVision's modality, or LLaVA-Med's domain: {"ct_scan": true, "mri": false, ...} → ct_scan."""
    domain = entry.get("domain")
    if isinstance(domain, dict):
        return check_utf8("+".join(sorted(name for name, value in domain.items() if value is True)), "domain") or None
    return _text_or_none(entry, "modality")
