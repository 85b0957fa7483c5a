"""Turns as the text of a prompt: by a model's own chat template, or plainly where it has none."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from medvlp.data.chat.templates import dated, render, split_thought
from medvlp.eval.models.answering import without_images
from medvlp.models.hf.answering import Reader
from medvlp.models.hf.decoding import Ids
from medvlp.shards import BadSample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

PROBE, PROBE_ANSWER = "Is the heart enlarged?", "Perhaps"
UNREAD = "unreadentry"
"""In a part of a message, where no template looks for it."""
NEXT_QUESTION = ("\n\n", "\nQuestion:")
"""Where the answer of a language model without a chat template ends: it would go on with a question of its own."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class PromptTemplate(Protocol):
    """From turns to the text behind which a model answers."""

    def prompt(self, turns: Sequence[Turn], images: int) -> str:
        """The text; every image is one placeholder.

        Raises:
            BadSample: turns that cannot be asked.
        """

    def continuation(self, reader: Reader, text: str, answer: str) -> tuple[str, Ids]:
        """A prompt's text up to where an answer's tokens begin, and those tokens, tokenised together with it.

        Raises:
            BadSample: an answer without tokens.
        """

    def answer(self, text: str) -> str:
        """What of a generated text is the answer."""

    def metadata(self) -> dict[str, Any]:
        """What a protocol says of it."""


@dataclass
class ChatTemplate:
    """The chat template that a model was published with.

    Contents are lists of parts where the template takes such, else strings. A date that the template would take from the
    clock is a fixed one, and thoughts are switched off where it has a switch for them.

    tokenizer: of the model. text: Jinja. image_token: what stands for an image in strings; "" for a language model.
    needs_image: its processor takes no prompt without one.
    """

    tokenizer: Any
    text: str
    image_token: str = ""
    needs_image: bool = False
    lead: str = field(init=False)
    _has_parts: bool = field(init=False, default=False)
    _control: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.text = dated(self.text)
        self._control = control_tokens(self.tokenizer, self.text, self.image_token)
        self._has_parts = bool(self.image_token) and self._takes_parts()
        self.lead = self._lead([Turn("user", PROBE)])

    def prompt(self, turns: Sequence[Turn], images: int) -> str:
        """As the template writes it, up to where the answer begins. Raises BadSample."""
        check_turns(turns, images, self._control, self.needs_image)
        return self._render(turns)

    def continuation(self, reader: Reader, text: str, answer: str) -> tuple[str, Ids]:
        """As `continuation`; what the template puts before an answer is a part of it."""
        return continuation(reader, text, self.lead + answer)

    def answer(self, text: str) -> str:
        """All of it."""
        return text

    def metadata(self) -> dict[str, Any]:
        """The template's hash."""
        thoughts = {"thoughts": "switched off, as the template allows"} if "enable_thinking" in self.text else {}
        return {
            "template": "the model's own chat template",
            "template_sha256": hashlib.sha256(self.text.encode()).hexdigest(),
            **thoughts,
        }

    def _takes_parts(self) -> bool:
        """Whether the template reads lists of parts. One that writes out whatever it is given writes the unread entry, too."""
        part = {"type": "text", "text": PROBE, "unread": UNREAD}
        try:
            text = self._written([{"role": "user", "content": [part]}], True)
        except BadSample:
            return False
        return PROBE in text and UNREAD not in text

    def _render(self, turns: Sequence[Turn], add_generation_prompt: bool = True) -> str:
        return self._written(
            [{"role": turn.role, "content": self._content(turn)} for turn in turns], add_generation_prompt
        )

    def _written(self, messages: list[Any], add_generation_prompt: bool) -> str:
        from jinja2 import TemplateError

        try:
            return render(self.tokenizer, self.text, messages, add_generation_prompt, enable_thinking=False)[0]
        except TemplateError as error:
            reason = "no_system_turn" if messages[0]["role"] == "system" else "bad_roles"
            raise BadSample(reason, detail=f"the chat template refuses: {error}") from None

    def _content(self, turn: Turn) -> str | list[dict[str, str]]:
        text = split_thought(turn.text)[1] if turn.role == "assistant" else turn.text
        if not self._has_parts:
            return text.replace(IMAGE_TOKEN, self.image_token) if self.image_token else text
        parts: list[dict[str, str]] = []
        pieces = text.split(IMAGE_TOKEN)
        for number, piece in enumerate(pieces):
            if number:
                parts.append({"type": "image"})
                piece = piece.removeprefix("\n")
            if number < len(pieces) - 1:
                piece = piece.removesuffix("\n")
            if piece:
                parts.append({"type": "text", "text": piece})
        return parts

    def _lead(self, question: list[Turn]) -> str:
        """What stands between a prompt and an answer in a whole conversation: nothing, or a space."""
        try:
            prompt = self._render(question)
            conversation = self._render([*question, Turn("assistant", PROBE_ANSWER)], add_generation_prompt=False)
        except BadSample:
            return ""
        tail = conversation.removeprefix(prompt)
        lead = tail.partition(PROBE_ANSWER)[0] if conversation.startswith(prompt) and PROBE_ANSWER in tail else ""
        return lead if not lead.strip() else ""


@dataclass
class PlainImageText:
    """A model of images and text without a chat template: the images, then the text, and nothing else.

    end: what its processor puts behind the text (PaliGemma's a newline).
    """

    tokenizer: Any
    image_token: str
    end: str = ""
    needs_image: bool = False
    _control: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._control = control_tokens(self.tokenizer, "", self.image_token)

    def prompt(self, turns: Sequence[Turn], images: int) -> str:
        """Placeholders and the texts of all turns, one a line. Raises BadSample."""
        check_turns(turns, images, self._control, self.needs_image)
        return self.image_token * images + "\n".join(turn.text for turn in without_images(turns))

    def continuation(self, reader: Reader, text: str, answer: str) -> tuple[str, Ids]:
        """As `continuation`; behind the text comes what the processor puts there."""
        prompt, ids = continuation(reader, text + self.end, answer)
        return prompt.removesuffix(self.end), ids

    def answer(self, text: str) -> str:
        """All of it."""
        return text

    def metadata(self) -> dict[str, Any]:
        """That there is no template."""
        return {"template": "none: the images, then the plain text"}


@dataclass
class PlainText:
    """A language model without a chat template: questions and answers under these words."""

    tokenizer: Any
    _control: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._control = control_tokens(self.tokenizer, "", "")

    def prompt(self, turns: Sequence[Turn], images: int) -> str:
        """`Question: …` and `Answer:`, a blank line between the pairs. Raises BadSample."""
        check_turns(turns, images, self._control, False)
        text = ""
        for turn in turns:
            if turn.role == "assistant":
                text += f" {split_thought(turn.text)[1]}\n\n"
            else:
                text += f"Question: {turn.text}\nAnswer:" if turn.role == "user" else f"{turn.text}\n\n"
        return text

    def continuation(self, reader: Reader, text: str, answer: str) -> tuple[str, Ids]:
        """As `continuation`, of a space and the answer."""
        return continuation(reader, text, f" {answer}")

    def answer(self, text: str) -> str:
        """What stands before the next question."""
        return re.split("|".join(map(re.escape, NEXT_QUESTION)), text.lstrip("\n"))[0].strip()

    def metadata(self) -> dict[str, Any]:
        """The words, and where an answer ends."""
        return {"template": "none: Question: …\\nAnswer:", "answer_ends_before": list(NEXT_QUESTION)}


def continuation(reader: Reader, text: str, words: str) -> tuple[str, Ids]:
    """A prompt without the spaces at its end, and the tokens of these spaces and of the words behind it: what tokens of all
    together have beyond the prompt's own number of tokens (lm-evaluation-harness, `_encode_pair`).

    Most tokenizers write a space and the word behind it as one token, which a prompt that ends with the space would split.
    Ends of lines stay in the prompt; the harness moves those, too.

    Raises:
        BadSample: words without tokens.
    """
    prompt = text.rstrip(" ")
    ids = tuple(reader.ids(text + words)[len(reader.ids(prompt)) :])
    if not ids:
        raise BadSample("empty_option", detail=f"the answer {words!r} has no tokens of its own behind this prompt")
    return prompt, ids


def control_tokens(tokenizer: Any, template: str, image_token: str) -> re.Pattern[str]:
    """What would be read as a control token if it stood in a question."""
    added = tokenizer.added_tokens_decoder.values()
    tokens = {token.content for token in added if token.special or token.content in template}
    tokens = {token for token in {*tokens, image_token} - {IMAGE_TOKEN} if token.strip()}
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def check_turns(turns: Sequence[Turn], images: int, control: re.Pattern[str], needs_image: bool) -> None:
    """A user's turn last, a placeholder an image, and text that is text.

    Raises:
        BadSample: `bad_roles`, `placeholder_count`, `broken_text`, `special_token_in_text`, `no_image`.
    """
    if not turns or turns[-1].role != "user":
        raise BadSample("bad_roles", detail="expected a user's turn last")
    placeholders = sum(turn.text.count(IMAGE_TOKEN) for turn in turns)
    if placeholders != images or any(IMAGE_TOKEN in turn.text for turn in turns if turn.role != "user"):
        raise BadSample("placeholder_count", detail=f"{placeholders} × {IMAGE_TOKEN} for {images} images")
    for number, turn in enumerate(turns):
        if _SURROGATE.search(turn.text):
            raise BadSample("broken_text", detail=f"turn {number}: half of a pair of characters")
        if token := control.search(turn.text):
            raise BadSample(
                "special_token_in_text",
                detail=f"turn {number}: {token[0]!r} would be read as a control token; take it out of the text",
            )
    if needs_image and not images:
        raise BadSample("no_image", detail="the model's processor takes no prompt without an image")
