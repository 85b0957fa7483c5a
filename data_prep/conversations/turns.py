"""Turns of a conversation in the forms in which people write them, as the turns of a sample.

    {"from": "human" | "gpt" | "system", "value": "..."}                          LLaVA, ShareGPT
    {"role": "user" | "assistant" | "system", "content": "..."}                   OpenAI, TRL, LLaMA-Factory
    {"role": "user", "content": [{"type": "image", "image": "a.jpg"},             the same in parts
                                 {"type": "text", "text": "..."}]}
    {"question": "...", "answer": "..."}  (query, response)  (instruction, input, output)    one pair, in the entry

In a user's text, `<img>a.jpg</img>`, `![](a.jpg)` and `<img src="a.jpg">` name an image where they stand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from data_prep.errors import BadRow
from data_prep.readers.fields import MAX_TEXT, Entry, as_text, check_utf8, kind_of, says_something
from data_prep.readers.image_fields import PATH_KEYS as IMAGE_KEYS
from data_prep.readers.image_fields import image_name
from medvlp.shards import Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

KEYS = ("conversations", "messages", "conversation", "conversatons")
"""Where an entry's turns are; the last is how LLaVA-Med's question files spell the first."""

PAIRS = (("question", "", "answer"), ("query", "", "response"), ("instruction", "input", "output"))
"""(question, what goes with it, answer) of an entry that is one pair."""

ROLES = {
    **{"system": "system", "developer": "system", "human": "user", "user": "user"},
    **{"gpt": "assistant", "assistant": "assistant", "model": "assistant", "chatgpt": "assistant"},
}
IMAGE_PARTS = ("image", "image_url", "input_image", "image_path", "image_file")
TEXT_PARTS = ("text", "input_text", "output_text")

_INLINE = re.compile(
    r"<img>\s*([^<>\n]+?)\s*</img>|!\[[^\]\n]*\]\(([^)\s]+)\)|<img\s[^<>]*?src=[\"']([^\"'<>]+)[\"'][^<>]*>"
)
FOREIGN = re.compile(
    r"<image[ _]?(\d+)>|<ImageHere>|<IMAGE>|<Image>|<img>|<IMG>|\[IMG\]|<start_of_image>"
    r"|<\|vision_start\|><\|image_pad\|><\|vision_end\|>|<\|image(?:_pad|_(\d+))?\|>"
)
"""What other families write where an image stands."""


@dataclass
class Dialogue:
    """The turns of an entry, and what was seen while they were read."""

    turns: list[Turn] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    """Names that the turns themselves give, in order."""
    repairs: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """Fields of turns that were not asked for."""


def read_turns(entry: Entry) -> Dialogue:
    """The turns of an entry: system, if at all, first; then user and assistant in turn, the assistant last.

    Raises BadRow: missing_conversations, bad_conversations, empty_conversations, missing_role, unknown_role, turn_order,
    missing_value, bad_value, long_value, empty_value, not_utf8, placeholder_count, bad_image, embedded_image.
    """
    dialogue = Dialogue()
    key = next((key for key in KEYS if key in entry), "")
    pair = next((pair for pair in PAIRS if all(entry.get(name) is not None for name in (pair[0], pair[2]))), None)
    if pair and not key:
        _read_pair(entry, *pair, dialogue)
        return dialogue
    key = key or KEYS[0]
    if key == "conversatons":
        dialogue.repairs.append(key)
    value = entry.get(key)
    if value is None:
        raise BadRow("missing_conversations", f"{key} is {'null' if key in entry else 'missing'}")
    if not isinstance(value, list):
        raise BadRow("bad_conversations", f"{key} is a {type(value).__name__}, expected a list of turns")
    if not value:
        raise BadRow("empty_conversations", f"{key} is an empty list")
    for position, turn in enumerate(value):
        dialogue.turns.append(_turn(turn, key, position, dialogue))
    _check_order([turn.role for turn in dialogue.turns], key)
    return dialogue


def _read_pair(entry: Entry, question: str, context: str, answer: str, dialogue: Dialogue) -> None:
    prompt = _text(entry[question], question, "user", dialogue)
    if context and says_something(entry.get(context)):
        prompt += "\n" + _text(entry[context], context, "user", dialogue)
    dialogue.turns += [Turn("user", prompt), Turn("assistant", _text(entry[answer], answer, "assistant", dialogue))]


def _turn(turn: Any, key: str, position: int, dialogue: Dialogue) -> Turn:
    location = f"{key}[{position}]"
    if not isinstance(turn, dict):
        raise BadRow(
            "bad_conversations", f"{location} is a {type(turn).__name__}, expected an object with from and value"
        )
    fields = Entry(turn)
    names = ("role", "content") if "role" in turn or (key == "messages" and "from" not in turn) else ("from", "value")
    role, value = (fields.get(name) for name in names)
    if role is None:
        raise BadRow("missing_role", f"{location}.{names[0]} is {'null' if names[0] in turn else 'missing'}")
    if not isinstance(role, str) or role not in ROLES:
        expected = ", ".join(ROLES)
        raise BadRow("unknown_role", f"{location}.{names[0]} is {str(role)[:80]!r}, expected one of {expected}")
    if value is None:
        raise BadRow("missing_value", f"{location}.{names[1]} is {'null' if names[1] in turn else 'missing'}")
    text = _text(value, f"{location}.{names[1]}", ROLES[role], dialogue)
    dialogue.ignored += [f"{key}.{name}" for name in fields.ignored()]
    return Turn(ROLES[role], text)


def _text(value: Any, location: str, role: str, dialogue: Dialogue) -> str:
    """A turn's text, with a placeholder where it names an image."""
    is_parts = isinstance(value, list) and value and all(isinstance(part, dict) for part in value)
    text = _joined(value, location, dialogue) if is_parts else as_text(value)
    if text is None:
        raise BadRow("bad_value", f"{location} is {kind_of(value)}, expected a text")
    if len(text) > MAX_TEXT:
        raise BadRow("long_value", f"{location} has {len(text)} characters, at most {MAX_TEXT} are read")
    if not isinstance(value, str) and not is_parts and "numbers" not in dialogue.repairs:
        dialogue.repairs.append("numbers")
    if not check_utf8(text, location).strip():
        raise BadRow("empty_value", f"{location} is empty")
    if role == "user" and not is_parts:
        text = _INLINE.sub(lambda match: _placed(next(filter(None, match.groups())), dialogue), text)
    if role != "user" and IMAGE_TOKEN in text:
        raise BadRow("placeholder_count", f"{location} holds {IMAGE_TOKEN}, which only turns from human may")
    return text


def _placed(name: str, dialogue: Dialogue) -> str:
    dialogue.images.append(name)
    return IMAGE_TOKEN


def _joined(parts: list[dict[str, Any]], location: str, dialogue: Dialogue) -> str:
    """The text of a turn in parts."""
    texts = []
    for position, part in enumerate(parts):
        kind = part.get("type") or next(iter(part), "")
        part_location = f"{location}[{position}]"
        if kind in TEXT_PARTS:
            text = as_text(part.get("text"))
            if text is None:
                raise BadRow("bad_value", f"{part_location}.text is {kind_of(part.get('text'))}, expected a text")
            texts.append(text)
        elif kind in IMAGE_PARTS:
            fields = {name: value for name, value in part.items() if name != "type" and says_something(value)}
            texts.append(
                _placed(image_name(fields, part_location), dialogue)
                if fields.keys() & {*IMAGE_KEYS, "bytes"}
                else IMAGE_TOKEN
            )
        else:
            raise BadRow("bad_value", f"{part_location} is of type {str(kind)[:40]!r}, expected text or image")
    return "\n".join(texts)


def _check_order(roles: list[str], key: str) -> None:
    """What chat templates take."""
    start = 1 if roles[0] == "system" else 0
    for position, role in enumerate(roles[start:], start):
        expected = ("user", "assistant")[(position - start) % 2]
        if role != expected:
            raise BadRow("turn_order", f"{key}[{position}] is from the {role}, expected the {expected}")
    if roles[-1] != "assistant":
        raise BadRow("turn_order", f"{key} ends with the {roles[-1]}, expected an answer of the assistant")


def place_images(dialogue: Dialogue, key: str, names: list[str]) -> list[str]:
    """See that the users' turns hold a placeholder for each image, and return the images' names in order.

    names: those that the entry gives under `key`. Without any placeholder, one for each goes before the first question;
    what other families write in its place becomes one.

    Raises BadRow: placeholder_count, unclear_image (the turns name others than the entry does).
    """
    if (
        dialogue.images
        and names
        and [name.rpartition("/")[2] for name in names] != [name.rpartition("/")[2] for name in dialogue.images]
    ):
        raise BadRow("unclear_image", f"{key} names {names[0][:60]!r}, the turns name {dialogue.images[0][:60]!r}")
    names = names or dialogue.images
    user_turns = [turn for turn in dialogue.turns if turn.role == "user"]
    placeholders = sum(turn.text.count(IMAGE_TOKEN) for turn in user_turns)
    if placeholders == 0:
        foreign = [match for turn in user_turns for match in FOREIGN.finditer(turn.text)]
        if foreign and not names:
            detail = f"{foreign[0][0]} stands for an image in the conversation, but the entry names none"
            raise BadRow("placeholder_count", detail)
        numbers = [int(match[1] or match[2] or 0) for match in foreign]
        if len(foreign) == len(names) and numbers == sorted(numbers):
            for turn in user_turns:
                turn.text = FOREIGN.sub(IMAGE_TOKEN, turn.text)
        elif names:
            user_turns[0].text = f"{IMAGE_TOKEN}\n" * len(names) + user_turns[0].text
        if names:
            dialogue.repairs.append("placeholders")
    elif placeholders != len(names):
        raise BadRow(
            "placeholder_count",
            f"{placeholders} {IMAGE_TOKEN} in the conversation, but {key or 'image'} names {len(names)}",
        )
    return names
