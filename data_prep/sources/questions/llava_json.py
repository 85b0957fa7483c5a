"""Conversations in LLaVA's form (Liu et al. 2023), as LLaVA-Med, Quilt-Instruct and PubMedVision publish theirs.

    {"id": ..., "image": "a.jpg" | ["a.jpg", "b.jpg"], "conversations": [{"from": "human", "value": "<image>\\n..."}, ...]}

and in the other forms that people write: see `chat_turns` for the turns, `image_fields` for the images' keys.

input is a .json file with a list of such entries, a .jsonl file with one a line, or a folder with several: those in it,
or in its folders train/, valid/ and test/; `options.files=[a.json,b.jsonl]` takes some only. A file's name tells the split
(`val.json`, `slake_test.jsonl`), else its folder's; without such a word it is train. Images are named relative to the
folder (of the file), or to `options.images`: a path below that folder, or an absolute one.

What publishers do differently is repaired, and the conversation's metadata says so under "mended":

    conversatons   the key as LLaVA-Med's question files spell it
    image_key      images under another key than `image`; `image_key` has it
    image_folder   images that are not where they are named, but in images/ there
    numbers        a value that is a number, as answers in LLaVA-Med's question files can be
    placeholders   no `<image>` although there are images (PubMedVision): one for each goes before the first question; or
                   what another family writes in its place

Boxes are shares of the image's width and height: `boxes` has one [left, top, right, bottom] for each `<box>` of the turns, in
their order. `box` alone is the region that the entry is about: `options.region` (`{question} Region: <box>`) puts it into the
first question, where the turns have no `<box>` of their own. With answer_type boxes the answer is boxes.

`options` with `answer_letter`, or an answer that names one of them, make a question of multiple choice. Fields that
nothing reads are counted. Anything else that does not fit is a named drop; see `LlavaJson.rows`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from data_prep.conversations.multiple_choice import choice_of
from data_prep.conversations.questions import QuestionRow, QuestionRows, QuestionSource, parse_rows
from data_prep.conversations.turns import KEYS, PAIRS, Dialogue, place_images, read_turns
from data_prep.errors import BadRow, PrepError
from data_prep.readers.clutter import glob
from data_prep.readers.fields import Entry, as_text, check_utf8, text_of
from data_prep.readers.guarded import read_json_lines, read_json_list, size_of
from data_prep.readers.image_fields import image_names, in_image_folder, located
from data_prep.source import Dropped, Options
from data_prep.vocabulary.splits import SPLIT_NAMES
from medvlp.boxes.canonical import BadBox, box_of, boxes_of
from medvlp.shards import Conversation, Sample, make_key
from medvlp.shards.vocabulary import BOX_TOKEN, IMAGE_TOKEN, SPLITS

FILES = (".json", ".jsonl")
MAX_FOLDERS = 20
"""Looked into for an image that is missing."""

REPAIRS = {
    "conversatons": "conversations under the misspelt key conversatons",
    "image_folder": "images found in images/ beside the file",
    "image_key": "images under the key {}",
    "numbers": "values that are numbers",
    "placeholders": "<image> put where it was missing",
}
"""What the counts say of what was repaired."""

REGION = "{question} Region: <box>"
METADATA_KEYS = ("question_type", "answer_type", "language", "pair_id", "rationale")
"""Texts of an entry that go into the conversation's metadata."""

NOT_IMAGES = frozenset(
    (*KEYS, *(name for pair in PAIRS for name in pair), *METADATA_KEYS, "id", "question_id", "options")
)


@dataclass(frozen=True)
class LlavaJsonOptions(Options):
    """Options of the source llava_json."""

    files: tuple[str, ...] = ()
    """Names of files in the folder that is the input; empty: all."""
    images: str = ""
    """The folder of images, as a path from the files' folder; empty: that folder."""
    region: str = REGION
    """What becomes of the first {question} of an entry whose `box` is in none of its turns."""


class LlavaJson(QuestionSource):
    """Reader of one or several LLaVA-style files. Raises PrepError if there are none, or no image folder."""

    name = "llava_json"
    description = "conversations in LLaVA's JSON or JSON lines"
    files = "a .json or .jsonl file of conversations, and its images"
    licence = "unknown"
    """The form has no place for it."""

    option_type = LlavaJsonOptions
    flag_option = "images"
    choices: LlavaJsonOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        if self.choices.region.count("{question}") != 1 or self.choices.region.count(BOX_TOKEN) != 1:
            raise PrepError(f"options.region={self.choices.region} has to have {{question}} and {BOX_TOKEN}, once each")
        path = Path(input)
        is_file = path.suffix in FILES and path.is_file()
        if not input or not (is_file or path.is_dir()):
            raise PrepError(
                f"input={input or '(not given)'} is not a .json or .jsonl file, nor a folder of such files; give what "
                "holds the conversations"
            )
        self.folder = path.parent if is_file else path
        images, files = self.choices.images, self.choices.files
        self.images = self.folder / images
        if not self.images.is_dir() or ".." in Path(images).parts:
            raise PrepError(
                f"options.images={images} is not a folder below {self.folder}; give the image folder as a path below the file's "
                "folder, or as an absolute path"
            )
        if is_file and files:
            raise PrepError(f"options.files chooses among the files of a folder, but input={input} is a file")
        self._files = {self.folder / path.name: split_of(path.stem)} if is_file else self._paths(files)
        self.splits = tuple(split for split in SPLITS if split in self._files.values())

    def _paths(self, names: tuple[str, ...]) -> dict[Path, str]:
        """File → split, of a folder."""
        for name in names:
            if Path(name).suffix not in FILES or ".." in Path(name).parts or not (self.folder / name).is_file():
                raise PrepError(f"options.files: {name} is not a .json or .jsonl file below {self.folder}")
        paths = [self.folder / name for name in sorted(set(names))]
        if not paths:
            paths = [p for p in glob(self.folder, "*", self.input_counts) if p.suffix in FILES and p.is_file()]
        if not paths:
            folders = [p for p in sorted(self.folder.iterdir()) if p.is_dir() and p.name.lower() in SPLIT_NAMES]
            paths = [p for f in folders for p in glob(f, "*", self.input_counts) if p.suffix in FILES and p.is_file()]
        if not paths:
            raise PrepError(
                f"{self.folder} holds no .json or .jsonl file, nor do folders in it that are called train, valid or test"
            )
        return {path: split_of(path.stem, SPLIT_NAMES.get(path.parent.name.lower(), "train")) for path in paths}

    def tables(self) -> list[Path]:
        """The files."""
        return list(self._files)

    def rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """Drops, whose detail names the key.

        bad_row, bad_json, line_too_long, not_utf8, bad_id; those of `chat_turns.read_turns` and `place_images`, of
        `image_fields.image_names` and `located`, of `multiple_choice.choice_of`; bad_boxes, box_count; and from reading images:
        bad_path, missing_image, image_too_large, image_format.
        """
        for path, file_split in self._files.items():
            if file_split == split:
                is_list = path.suffix == ".json"
                entries = self._list(path) if is_list else read_json_lines(path)
                parse = partial(_row, images=self.images, folder=self.folder, region=self.choices.region)
                for row in parse_rows(path, entries, "id", parse, "entry" if is_list else "line"):
                    yield row if isinstance(row, Dropped) else replace(row, file=path.stem)

    def _list(self, path: Path) -> list[tuple[int, Any]]:
        try:
            return read_json_list(path)
        except PrepError as error:
            if len(self._files) == 1:
                raise
            raise PrepError(f"{error}; of a file of another kind, name the others: options.files=[...]") from None

    def image(self, split: str, name: str) -> tuple[str, bytes]:
        """As of every set; of an image that is missing, the folder next to the entries that has it is named."""
        try:
            return super().image(split, name)
        except BadRow as bad:
            near = [folder for folder in self._neighbours if size_of(folder, name) is not None]
            if bad.reason != "missing_image" or not near:
                raise
            raise BadRow(
                bad.reason, f"{bad.detail}, but in {near[0].name}/: give options.images={near[0].name}"
            ) from None

    @cached_property
    def _neighbours(self) -> list[Path]:
        """Folders next to the entries, the first few."""
        return [path for path in sorted(self.folder.iterdir()) if path.is_dir()][:MAX_FOLDERS]

    def sample(self, split: str, rows: QuestionRows, images: dict[str, bytes]) -> Sample:
        """As of the other sets, but many data sets come in this form: the key names the file too."""
        sample = super().sample(split, rows, images)
        first = rows[0]
        sample.key = make_key(self.name, first.file, first.image_id, split)
        if len(first.images) > 1:
            sample.metadata["original_names"] = list(first.images)
        if not first.images:
            sample.metadata = {**sample.metadata, "group_kind": "entry", "original_name": first.name}
            del sample.metadata["image_id"]
        for metadata in (row.conversation.metadata for row in rows if row.conversation):
            key = metadata.get("image_key")
            repairs = [REPAIRS[kind].format(key) for kind in metadata.get("mended", ())]
            self.counts.update(Counter(("read", f"mended: {words}") for words in repairs))
        return sample


def split_of(stem: str, otherwise: str = "train") -> str:
    """The split that a word of a file's name tells: `pvqa_val_2` → valid, `latest` → train."""
    words = re.split("[^a-z]+", stem.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), otherwise)


def _row(name: str, entry: dict[str, Any], images: Path, folder: Path, region: str) -> QuestionRow:
    assert isinstance(entry, Entry)
    dialogue = read_turns(entry)
    key, names = image_names(entry, NOT_IMAGES)
    names = [located(name, images, folder) for name in place_images(dialogue, key, names)]
    if images == folder and (inner_names := [in_image_folder(name, folder) for name in names]) != names:
        dialogue.repairs.append("image_folder")
        names = inner_names
    if key not in ("", "image"):
        dialogue.repairs.append("image_key")
    id = next((text_of(entry, key) for key in ("id", "question_id") if entry.get(key) is not None), None)
    kinds = {key: text for key in METADATA_KEYS if (text := _text_or_none(entry, key))}
    if "answer_type" in kinds:
        kinds["answer_type"] = kinds["answer_type"].lower()
    choice, unclear = choice_of(entry, dialogue.turns[-1].text)
    metadata: dict[str, Any] = {**kinds, **choice}
    if boxes := _boxes(entry, dialogue, region, len(names)):
        metadata["boxes"] = boxes
    if dialogue.repairs:
        metadata["mended"] = sorted(dialogue.repairs)
    if "image_key" in dialogue.repairs:
        metadata["image_key"] = key
    image_metadata = {"modality": _modality(entry), "organ": _text_or_none(entry, "body_part")}
    return QuestionRow(
        name,
        tuple(names),
        "+".join(names) or name,
        Conversation(dialogue.turns, id, metadata),
        {key: value for key, value in image_metadata.items() if value},
        (*dialogue.ignored, *unclear),
    )


def _text_or_none(entry: Entry, key: str) -> str | None:
    """A text or a number as text; what is neither is put back, so that it is counted."""
    text = as_text(entry.get(key))
    if text is None:
        entry.put_back(key)
        return None
    return check_utf8(text, key).strip()


def _boxes(entry: Entry, dialogue: Dialogue, region: str, images: int) -> list[list[float]] | None:
    """The boxes of an entry in the order of the turns' `<box>`; None where it has none. The one under `box` gets its `<box>`.

    Raises BadRow: bad_boxes (none, or both keys, or no image), box_count.
    """
    keys = [key for key in ("box", "boxes") if entry.get(key) is not None]
    if not keys:
        return None
    if len(keys) == 2 or not images:
        raise BadRow(
            "bad_boxes", "box and boxes are both given" if images else f"{keys[0]} of an entry without an image"
        )
    try:
        boxes = [box_of(entry["box"])] if keys == ["box"] else boxes_of(entry["boxes"])
    except BadBox as bad:
        raise BadRow("bad_boxes", f"{keys[0]}: {bad.detail}") from None
    count = sum(turn.text.count(BOX_TOKEN) for turn in dialogue.turns)
    if keys == ["box"] and not count:
        turn = next(turn for turn in dialogue.turns if turn.role == "user")
        placeholders = "".join(re.findall(rf"\A(?:{IMAGE_TOKEN}\n?)+", turn.text))
        turn.text = placeholders + region.replace("{question}", turn.text[len(placeholders) :])
        count = 1
    if count != len(boxes):
        raise BadRow("box_count", f"{count} × {BOX_TOKEN} in the turns, and {len(boxes)} boxes")
    return [list(box) for box in boxes]


def _modality(entry: Entry) -> str | None:
    """PubMedVision's modality, or LLaVA-Med's domain: {"ct_scan": true, "mri": false, ...} → ct_scan."""
    domain = entry.get("domain")
    if isinstance(domain, dict):
        return check_utf8("+".join(sorted(name for name, value in domain.items() if value is True)), "domain") or None
    entry.put_back("domain")
    return _text_or_none(entry, "modality")
