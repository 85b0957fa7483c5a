"""How the members of a tar become a sample: as our writer put them there, or as a description of others' tars says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from medvlp.shards.errors import BadSample, ShardError
from medvlp.shards.manifest import Manifest, form_in
from medvlp.shards.schema import IMAGE_EXTENSIONS, Sample, from_members

JSON = "json"
IN_JSON = f"{JSON}."
"""Begins a path in the JSON member: `json.caption`, `json.meta.title`."""
CAPTIONS = ("txt", "caption", "json.caption", "json.text")
"""Where a caption is looked for if none is named; the first path that has one counts."""
NO_CAPTION = ("", "none", "nan", "null", "n/a", "no caption found", "noreportpresent", "nothingpresent")
"""What publishers write where there is none."""
UNKNOWN = "unknown"
LAST, FIRST = DOTS = ("last", "first")


class SampleForm(Protocol):
    """What the reader asks of the members of one sample."""

    @property
    def text_members(self) -> frozenset[str]:
        """Names of members that are no image."""

    def sample(self, key: str, members: Mapping[str, bytes]) -> Sample:
        """The sample. Raises BadSample."""


class OwnForm:
    """The form of `to_members`."""

    text_members = frozenset(("txt", JSON))

    def sample(self, key: str, members: Mapping[str, bytes]) -> Sample:
        return from_members(key, members)


@dataclass(frozen=True)
class ForeignForm:
    """The form of others' tars. A path is a member's extension (`txt`), or a field of the JSON (`json.title`)."""

    name: str
    """Of the source; keys begin with it."""
    captions: Sequence[str] = ()
    """Paths of captions, which become `caption`, `caption_1`, …; empty: the first of `CAPTIONS` that has one."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Text field → path."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Label → path in the JSON."""
    licence: str = ""
    """Path in the JSON, or the licence of all; empty: unknown."""
    modality: str = ""
    """Likewise."""
    group: str = ""
    """Path in the JSON of what samples of one article or patient share; empty: none."""
    split_at: Sequence[str] = ()
    """Marker words between the captions of one text, as UniMed's scripts write them (`_chexpert_`); a text is taken apart at the
    first that it has."""
    dots: str = LAST
    """Dot at which a member's name ends and its extension begins: `first`, as webdataset, or `last`, for keys with dots."""

    @property
    def text_members(self) -> frozenset[str]:
        paths = [*(self.captions or CAPTIONS), *self.texts.values(), *self.labels.values()]
        paths += [path for path in (self.licence, self.modality, self.group) if path.startswith(IN_JSON)]
        return frozenset(JSON if path.startswith(IN_JSON) else path for path in paths)

    def sample(self, key: str, members: Mapping[str, bytes]) -> Sample:
        """The sample. Raises BadSample: missing_image, missing_caption, broken_text, broken_json."""
        contents = _Contents(key, members)
        images = {name: data for name, data in members.items() if name not in self.text_members}
        if not images:
            raise BadSample("missing_image", key=key, detail=f"it has {', '.join(sorted(members))} alone")
        captions = self._captions(contents)
        if not captions:
            paths = ", ".join(self.captions or CAPTIONS)
            raise BadSample(
                "missing_caption", key=key, detail=f"no text in {paths}; it has {', '.join(sorted(members))}"
            )
        texts = {f"caption_{n}" if n else "caption": text for n, text in enumerate(captions)}
        texts |= {name: text for name, path in self.texts.items() if (text := "\n".join(contents.texts(path)))}
        labels = {name: value for name, path in self.labels.items() if (value := contents.value(path)) is not None}
        metadata = {
            "source": self.name,
            "licence": self._fact(contents, self.licence),
            "modality": self._fact(contents, self.modality),
            **({"group": group} if self.group and (group := contents.plain(self.group)) else {}),
        }
        return Sample(key, images, texts, labels, metadata=metadata)

    def _captions(self, contents: _Contents) -> list[str]:
        paths = self.captions or CAPTIONS
        texts: list[str] = []
        for path in paths:
            parts = [part for text in contents.texts(path) for part in self._apart(text)]
            texts += [part for part in parts if part.strip().lower() not in NO_CAPTION]
            if texts and not self.captions:
                break
        return list(dict.fromkeys(texts))

    def _apart(self, text: str) -> list[str]:
        """The captions of a text; of several, those that say something."""
        marker = next((marker for marker in self.split_at if marker in text), None)
        if marker is None:
            return [text]
        return [part.strip() for part in text.split(marker) if any(character.isalnum() for character in part)]

    def _fact(self, contents: _Contents, path: str) -> str:
        return (contents.plain(path) if path.startswith(IN_JSON) else path) or UNKNOWN

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return json.loads(json.dumps(asdict(self)))


class _Contents:
    """Texts and values of one sample's members by path; the JSON is read once, and if it is asked for."""

    def __init__(self, key: str, members: Mapping[str, bytes]) -> None:
        self.key, self.members = key, members
        self._json: Any = None

    def texts(self, path: str) -> list[str]:
        """Texts at a path: none, one, or a list's. Raises BadSample."""
        if not path.startswith(IN_JSON):
            return [self._text(path)] if path in self.members else []
        value = self.value(path)
        values = value if isinstance(value, list) else [value]
        return [item for item in values if isinstance(item, str)]

    def plain(self, path: str) -> str:
        """A text or a number as text; "" where there is neither."""
        value = self.value(path)
        return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""

    def value(self, path: str) -> Any:
        """A value of the JSON; None where there is none. Raises BadSample: broken_json."""
        if JSON not in self.members:
            return None
        if self._json is None:
            try:
                # Python writes NaN, which JSON does not have, for what a table lacks.
                self._json = json.loads(self.members[JSON], parse_constant=lambda _: None)
                json.dumps(self._json, ensure_ascii=False, allow_nan=False).encode("utf-8")
            except (ValueError, RecursionError) as error:
                raise BadSample("broken_json", key=self.key, detail=f"its JSON cannot be read: {error}") from None
        value = self._json
        for name in path.removeprefix(IN_JSON).split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def _text(self, member: str) -> str:
        try:
            return self.members[member].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            detail = f"its {member} is not UTF-8 (byte {error.start})"
            raise BadSample("broken_text", key=self.key, detail=detail) from None


def is_image(member: str) -> bool:
    """Whether a member's name, in lower case, is an image's."""
    return member in IMAGE_EXTENSIONS or member.endswith(tuple(f".{extension}" for extension in IMAGE_EXTENSIONS))


def form_of(manifest: Manifest) -> SampleForm:
    """The form of a split's samples. Raises ShardError where its manifest describes none."""
    content = form_in(manifest.stages)
    if content is None:
        return OwnForm()
    try:
        form = ForeignForm(**content)
        check_form(form)
    except (TypeError, AttributeError) as error:
        raise ShardError(f"the manifest of {manifest.split} describes a form that is not read: {error}") from None
    return form


def check_form(form: ForeignForm) -> None:
    """Raises ShardError where a description makes no sense."""
    for name, path in {**form.texts, **form.labels}.items():
        if not path or not name:
            raise ShardError(f"{name!r} of {form.name} has the path {path!r}; expected an extension, or json.<field>")
    if not all(path.startswith(IN_JSON) for path in form.labels.values()):
        raise ShardError(f"labels of {form.name} are fields of the JSON: expected json.<field>")
    if form.group and not form.group.startswith(IN_JSON):
        raise ShardError(f"group={form.group} should be a field of the JSON: json.<field>")
    if isinstance(form.split_at, str) or not all(isinstance(word, str) and word.strip() for word in form.split_at):
        raise ShardError(f"split_at={form.split_at!r} should be a list of marker words, such as [_chexpert_]")
    if form.dots not in DOTS:
        raise ShardError(f"dots={form.dots} should be one of {', '.join(DOTS)}")
    if images := sorted(member for member in form.text_members if is_image(member)):
        raise ShardError(f"{images[0]} is an image, and holds no text")
