"""A sample, and how it becomes members of a tar and comes back.

<key>.jpg | <key>.left.png | <key>.nii.gz     encoded images, the publisher's bytes wherever possible
<key>.txt                                     the caption, exactly as it is
<key>.json                                    the rest: other texts, labels, conversations, metadata, and the
                                              names of the sample's other members, so that a lost one is noticed
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medvlp.shards.errors import BadSample, ShardError

KEY = re.compile(r"[A-Za-z0-9_-]{1,150}")
MAX_MEMBER_NAME = 24
"""Characters of a member's name; the index stores it in that many bytes."""

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "nii.gz")
# Lower case only: webdataset folds the case of extensions, so JPG and jpg would become one member.
IMAGE_MEMBER = re.compile(r"(?:[a-z0-9_-]+\.)?(?:jpe?g|png|webp|nii\.gz)")
ROLES = ("system", "user", "assistant")
FIELDS = ("conversations", "labels", "members", "metadata", "texts")


@dataclass
class Turn:
    """One utterance; role is one of `ROLES`."""

    role: str
    text: str


@dataclass
class Conversation:
    """A question and its answers, or a longer dialogue, about the sample's images."""

    turns: list[Turn]
    id: str | None = None
    """The publisher's id of the question, as a string: some sources mix integers and strings."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """question_type, answer_type, language, ..."""


@dataclass
class Sample:
    """One image, one volume, several images of one case, or none (text only), with all that is said of it."""

    key: str
    images: dict[str, bytes] = field(default_factory=dict)
    """Member name → encoded bytes: {"jpg": ...}, {"left.jpg": ..., "right.jpg": ...}, {"nii.gz": ...}."""
    texts: dict[str, str] = field(default_factory=dict)
    """Field → text; "caption" is the one that becomes `<key>.txt`."""
    labels: dict[str, Any] = field(default_factory=dict)
    conversations: list[Conversation] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    """group (of article, patient or figure: group_kind says which), licence, source, original_name, modality, ..."""


def make_key(source: str, article: str, figure: str = "0", panel: str = "0") -> str:
    """`source__article__figure__panel` of [A-Za-z0-9_-], at most 150 characters.

    Names that are legal map one to one. Where a character had to be replaced, or the key is too long, a short
    hash of the original names is appended, so that `fig.1` and `fig-1` stay apart.
    """
    parts = (source, article, figure, panel)
    legal = tuple(_legal_part(part) for part in parts)
    key = "__".join(legal)
    if legal == parts and len(key) <= 150:
        return key
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{key[:137]}-{digest}"


def _legal_part(part: str) -> str:
    # "__" separates the parts, so inside a part it must not occur, nor may an underscore stand at an edge.
    return re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9_-]", "-", part)).strip("_") or "0"


def is_member(name: str) -> bool:
    """Whether a sample can have a member of this name, apart from its JSON."""
    return name == "txt" or (len(name) <= MAX_MEMBER_NAME and bool(IMAGE_MEMBER.fullmatch(name)))


def to_members(sample: Sample) -> dict[str, bytes]:
    """Member name → bytes, in the order in which they stand in the tar: images sorted by name, txt, json.

    Raises ShardError if the sample breaks the contract.
    """
    if not KEY.fullmatch(sample.key):
        raise ShardError(
            f"key {sample.key!r} is not 1 to 150 characters of [A-Za-z0-9_-]; make_key(source, article, ...) makes one"
        )
    members: dict[str, bytes] = {}
    for name in sorted(sample.images):
        if name == "txt" or not is_member(name):
            raise ShardError(
                f"{sample.key}: image member {name!r} should be `ext` or `name.ext` in lower case, at most "
                f"{MAX_MEMBER_NAME} characters, with ext one of {', '.join(IMAGE_EXTENSIONS)}"
            )
        members[name] = sample.images[name]
    if "caption" in sample.texts:
        members["txt"] = _utf8(sample.texts["caption"], sample.key, "caption")
    members["json"] = _json_member(sample, list(members))
    return members


def _json_member(sample: Sample, members: list[str]) -> bytes:
    content: dict[str, Any] = {
        "conversations": [
            {
                "turns": [{"role": turn.role, "text": turn.text} for turn in conversation.turns],
                **({"id": conversation.id} if conversation.id is not None else {}),
                **({"metadata": conversation.metadata} if conversation.metadata else {}),
            }
            for conversation in sample.conversations
        ],
        "labels": sample.labels,
        "members": members,
        "metadata": sample.metadata,
        "texts": {name: text for name, text in sample.texts.items() if name != "caption"},
    }
    content = {name: value for name, value in content.items() if value}
    try:
        _check_plain(content, "")
        _conversations(content.get("conversations", []))
        _texts(content.get("texts", {}))
    except ValueError as error:
        raise ShardError(f"{sample.key}: {error}") from None
    return _utf8(json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")), sample.key, "json")


def _utf8(text: str, key: str, field: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ShardError(
            f"{key}: {field} cannot be written as UTF-8 ({error.reason} at character {error.start})"
        ) from None


def _check_plain(value: Any, path: str) -> None:
    """JSON gives back exactly what it got only for these types: a tuple would return as a list, an int key as str."""
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path or 'value'} is {value}, which JSON cannot hold; use null, or leave it out")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            _check_plain(item, f"{path}[{position}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{path or 'object'} has the key {name!r}; JSON objects have string keys only")
            _check_plain(item, f"{path}.{name}" if path else name)
    else:
        raise ValueError(f"{path or 'value'} is a {type(value).__name__}; expected null, bool, int, float, str, list")


def from_members(key: str, members: Mapping[str, bytes]) -> Sample:
    """The sample that `to_members` took apart; the rules that it keeps are checked as far as they cost little.

    Raises BadSample where a member is missing, is not one that a sample can have, or is not what it should be.
    """
    if not KEY.fullmatch(key):
        raise BadSample("broken_key", key=key, detail=f"{key!r} is not 1 to 150 characters of [A-Za-z0-9_-]")
    if "json" not in members:
        raise BadSample("missing_member", key=key, detail=f"{key}.json is not there; found {sorted(members)}")
    try:
        content = _parse(members["json"])
        labels = _mapping(content.get("labels", {}), "labels")
        metadata = _mapping(content.get("metadata", {}), "metadata")
        conversations = _conversations(content.get("conversations", []))
        texts = _texts(content.get("texts", {}))
        member_names = content.get("members", [])
        if not isinstance(member_names, list) or not all(isinstance(name, str) for name in member_names):
            raise ValueError(f"members is {str(member_names)[:80]}, expected a list of names")
    except (ValueError, RecursionError) as error:
        raise BadSample("broken_json", key=key, detail=f"{key}.json: {error}") from None
    for name in member_names:
        if name not in members:
            raise BadSample("missing_member", key=key, detail=f"{key}.{name} is named in {key}.json but is not there")
    for name in members:
        if name != "json" and (name not in member_names or not is_member(name)):
            fault = "is not named in its JSON" if is_member(name) else f"is none of txt, {', '.join(IMAGE_EXTENSIONS)}"
            raise BadSample("unexpected_member", key=key, detail=f"{key}.{name!r} {fault}")
    if "txt" in members:
        try:
            texts["caption"] = members["txt"].decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadSample("broken_text", key=key, detail=f"{key}.txt is not UTF-8 (byte {error.start})") from None
    images = {name: data for name, data in members.items() if name not in ("txt", "json")}
    return Sample(key, images, texts, labels, conversations, metadata)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):  # 1e999 is legal JSON and reads as infinity
        raise ValueError(f"{text} is beyond the range of a float")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):  # readers differ in which of the two they take
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the field {repeated!r} comes twice")
    return content


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse_constant, parse_float=_finite)


def strict_json(data: bytes) -> Any:
    """JSON as every reader understands it: no field twice, no NaN, nothing that UTF-8 cannot hold.

    Raises ValueError or RecursionError.
    """
    content = _DECODER.decode(data.decode("utf-8"))
    if b"\\u" in data:
        try:
            json.dumps(content, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError("it has half of a surrogate pair, which is no character") from None
    return content


def _parse(data: bytes) -> dict[str, Any]:
    content = _mapping(strict_json(data), "the whole")
    for name in content:
        if name not in FIELDS:
            raise ValueError(f"unknown field {name!r}; known are {', '.join(FIELDS)}")
    return content


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path} is a {type(value).__name__}, expected an object")
    return value


def _texts(value: Any) -> dict[str, str]:
    texts = _mapping(value, "texts")
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"texts.{name} is a {type(text).__name__}, expected a string")
    return texts


def _conversations(value: Any) -> list[Conversation]:
    if not isinstance(value, list):
        raise ValueError(f"conversations is a {type(value).__name__}, expected a list")
    return [_conversation(item, f"conversations[{position}]") for position, item in enumerate(value)]


def _conversation(value: Any, path: str) -> Conversation:
    fields = _mapping(value, path)
    turns, name = fields.get("turns"), fields.get("id")
    if not isinstance(turns, list):
        raise ValueError(f"{path}.turns is a {type(turns).__name__}, expected a list")
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{path}.id is a {type(name).__name__}, expected a string")
    metadata = _mapping(fields.get("metadata", {}), f"{path}.metadata")
    return Conversation([_turn(turn, f"{path}.turns[{i}]") for i, turn in enumerate(turns)], name, metadata)


def _turn(value: Any, path: str) -> Turn:
    fields = _mapping(value, path)
    role, text = fields.get("role"), fields.get("text")
    if role not in ROLES:
        raise ValueError(f"{path}.role is {role!r}, expected one of {', '.join(ROLES)}")
    if not isinstance(text, str):
        raise ValueError(f"{path}.text is a {type(text).__name__}, expected a string")
    return Turn(role, text)
