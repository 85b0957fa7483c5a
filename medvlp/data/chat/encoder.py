"""ChatEncoder: conversations as tokens, of which the assistant's are supervised. L: tokens of one conversation, image
tokens included."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvlp.data.chat.templates import render, split_thought
from medvlp.shards import BadSample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can escape one; no tokenizer takes it


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens, ready for training."""

    ids: NDArray[np.int64]
    """(L,); every image is `image_tokens` times the image token."""
    supervised: NDArray[np.bool_]
    """(L,); true for the assistant's words and the token that ends them."""


@dataclass
class ChatEncoder:
    """Conversation → tokens, and which of them are supervised. Can be pickled, for loader workers.

    The text is cut where an answer begins and where it ends, and no token spans a cut: at inference the prompt is
    tokenised alone and the model goes on from there, so training has to see the same tokens. Where tokens of the whole
    text respect the cuts, as they nearly always do, they are what the tokenizer gives for the whole text.

    Args:
        tokenizer: a transformers tokenizer that knows `<image>` as a special token.
        template: Jinja text with generation markers, from `chat_template`.
        image_id: the id of `<image>`.
        image_tokens: tokens that one image takes.
        thoughts: of `templates.THOUGHTS`: what becomes of thoughts (`<think>` … `</think>`) before an answer;
            "" refuses answers that have them.
    """

    tokenizer: Any
    template: str
    image_id: int
    image_tokens: int
    thoughts: str = ""
    _control: re.Pattern[str] = field(init=False, repr=False)
    _special_ids: frozenset[int] = field(init=False, repr=False)
    _newline: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self._tokenize(IMAGE_TOKEN)[-1:] != [self.image_id]:
            raise ValueError(
                f"the tokenizer gives {self._tokenize(IMAGE_TOKEN)} for {IMAGE_TOKEN}, expected the one token {self.image_id}; "
                f"add it with tokenizer.add_tokens(['{IMAGE_TOKEN}'], special_tokens=True)"
            )
        # Tokens that the template writes are control tokens, special or not; white space is ordinary text all the same.
        added = self.tokenizer.added_tokens_decoder
        self._special_ids = frozenset(number for number, token in added.items() if token.special)
        control = {t.content for t in added.values() if t.special or t.content in self.template} - {IMAGE_TOKEN}
        longest_first = sorted((token for token in control if token.strip()), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._newline = self._tokenize("\n")

    def encode(self, turns: Sequence[Turn], images: int) -> Encoded:
        """Tokens of a whole conversation, up to the end of its last answer (what a template writes after it, no
        supervised token sees).

        Raises:
            BadSample: `bad_roles`, `no_system_turn`, `placeholder_count`, `broken_text`, `special_token_in_text`,
                `thoughts_not_chosen`, `nothing_supervised`.
        """
        self._check(turns, images, last="assistant")
        text, spans = self._render(turns)
        answers = sum(turn.role == "assistant" for turn in turns)
        if len(spans) != answers:
            raise BadSample("nothing_supervised", detail=f"the chat template marks {len(spans)} of {answers} answers")
        segments = self._segments(text, spans)
        pieces = self._pieces(text, [0, *(end for end, _ in segments)])
        supervised = np.concatenate([np.full(len(p), flag) for p, (_, flag) in zip(pieces, segments, strict=True)])
        ids, repeats = self._expand(pieces, images)
        return Encoded(ids, supervised.repeat(repeats))

    def prompt(self, turns: Sequence[Turn], images: int) -> NDArray[np.int64]:
        """(L,): tokens from which the model answers the last turn, a user's. A prefix of what `encode` gives for the same
        turns and any answer.

        Raises:
            BadSample: as `encode`.
        """
        self._check(turns, images, last="user")
        text, spans = self._render(turns, add_generation_prompt=True)
        cuts = [0, *(end for end, _ in self._segments(text, spans)), len(text)]
        return self._expand(self._pieces(text, cuts), images)[0]

    def ends(self) -> list[int]:
        """The token with which the template ends an answer, where that is a special one; it need not be the language
        model's own end, nor have a name in the tokenizer."""
        last = int(self.encode([Turn("user", "Is it?"), Turn("assistant", "yes")], 0).ids[-1])
        return [last] if last in self._special_ids else []

    def answers(self, encoded: Encoded) -> list[str]:
        """Every run of supervised tokens as text, without the token that ends it, thoughts included."""
        texts = []
        for start, stop in _runs(encoded.supervised):
            run = encoded.ids[start:stop].tolist()
            texts.append(self.decode(run[:-1] if run[-1] in self._special_ids else run))
        return texts

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some tokens, control tokens included."""
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _check(self, turns: Sequence[Turn], images: int, last: str) -> None:
        _check_roles(turns, last)
        placeholders = 0
        for number, turn in enumerate(turns):
            if turn.role == "user":
                placeholders += turn.text.count(IMAGE_TOKEN)
            elif IMAGE_TOKEN in turn.text:
                raise BadSample(
                    "placeholder_count", detail=f"turn {number}: {IMAGE_TOKEN} stands in the {turn.role}'s words"
                )
            if broken := _SURROGATE.search(turn.text):
                raise BadSample("broken_text", detail=f"turn {number}: character {broken.start()} is half of a pair")
            thought, words = split_thought(turn.text) if turn.role == "assistant" else ("", turn.text)
            if token := self._control.search(thought) or self._control.search(words):
                raise BadSample(
                    "special_token_in_text",
                    detail=f"turn {number}: {token[0]!r} would be read as a control token; take it out of the text",
                )
            if thought and not self.thoughts:
                raise BadSample(
                    "thoughts_not_chosen",
                    detail=f"turn {number} begins with thoughts (<think>); set model.language.thoughts=dropped, kept (read, "
                    "not trained on) or supervised",
                )
            if turn.role == "assistant" and not words.strip():
                raise BadSample("nothing_supervised", detail=f"turn {number}: the answer is empty")
        if placeholders != images:
            raise BadSample("placeholder_count", detail=f"{placeholders} × {IMAGE_TOKEN} for {images} images")

    def _render(self, turns: Sequence[Turn], add_generation_prompt: bool = False) -> tuple[str, list[tuple[int, int]]]:
        from jinja2 import TemplateError

        messages = [{"role": turn.role, "content": self._words(turn)} for turn in turns]
        try:
            return render(self.tokenizer, self.template, messages, add_generation_prompt)
        except TemplateError as error:
            if turns[0].role == "system":
                self._render(turns[1:], add_generation_prompt)
                raise BadSample(
                    "no_system_turn",
                    detail="the chat template knows no system turn; set model.language.system=merge (it goes before the first "
                    "question) or drop",
                ) from None
            raise BadSample("bad_roles", detail=f"the chat template refuses: {error}") from None

    def _words(self, turn: Turn) -> str:
        """A turn's text; an answer without thoughts, or with them in the one form that templates look for."""
        if turn.role != "assistant":
            return turn.text
        thought, answer = split_thought(turn.text)
        return f"<think>\n{thought}\n</think>\n\n{answer}" if thought and self.thoughts != "dropped" else answer

    def _segments(self, text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, bool]]:
        """(end, whether supervised) of each stretch of a text up to its last answer. Thoughts that are only read are a stretch
        of their own: a prompt ends before them, what is supervised begins behind them."""
        segments: list[tuple[int, bool]] = []
        for begin, end in spans:
            segments.append((begin, False))
            thought_end = text.rfind("</think>", begin, end) if self.thoughts == "kept" else -1
            if thought_end >= 0:
                answer = text[thought_end + len("</think>") : end].lstrip()
                segments.append((end - len(answer), False))
            segments.append((end, True))
        return segments

    def _pieces(self, text: str, cuts: Sequence[int]) -> list[list[int]]:
        """Tokens between neighbouring cuts. What a piece's tokens are depends on what stands before it, never on what
        comes after: hence the law that prompts are prefixes."""
        pieces, prefix = [], self._tokenize("")
        for begin, end in pairwise(cuts):
            longer = self._tokenize(text[:end])
            is_clean = longer[: len(prefix)] == prefix
            pieces.append(longer[len(prefix) :] if is_clean else self._tokenize_alone(text[begin:end]))
            prefix = longer
        return pieces

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _tokenize_alone(self, text: str) -> list[int]:
        # Behind a newline, because SentencePiece models put a space before whatever a text begins with.
        ids = self._tokenize("\n" + text)
        begin = len(self._newline)
        return ids[begin:] if ids[:begin] == self._newline else self._tokenize(text)

    def _expand(self, pieces: list[list[int]], images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        ids = np.concatenate([np.array(piece, dtype=np.int64) for piece in pieces])
        is_image = ids == self.image_id
        if is_image.sum() != images:
            raise BadSample("placeholder_count", detail=f"{is_image.sum()} image tokens for {images} images")
        repeats = np.where(is_image, self.image_tokens, 1)
        return ids.repeat(repeats), repeats


def _check_roles(turns: Sequence[Turn], last: str) -> None:
    roles = [turn.role for turn in turns]
    dialogue = roles[1:] if roles[:1] == ["system"] else roles
    alternate = all(role == ("user", "assistant")[i % 2] for i, role in enumerate(dialogue))
    if not dialogue or not alternate or dialogue[-1] != last:
        raise BadSample(
            "bad_roles",
            detail=f"roles are {', '.join(roles) or 'none'}; expected user and assistant in turn, after at most one "
            f"system turn, {last} last",
        )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, stop) of every run of true."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
