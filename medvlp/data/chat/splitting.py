"""Splitting of conversations that are too long, at their turns."""

import re
from collections.abc import Sequence

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.shards import Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN


def split_long(
    turns: Sequence[Turn], images: int, encoder: ChatEncoder, max_length: int
) -> tuple[list[list[Turn]], int]:
    """Pieces of a conversation that fit into `max_length` tokens, and how many question–answer pairs fit into none.

    Each piece is a stretch of consecutive pairs behind the system turn and has every image: where a piece's first
    question does not hold them all, their placeholders are moved there. Nothing is truncated. A pair that is too long
    even alone is dropped, and what follows it starts a new piece.

    Raises:
        BadSample: as `ChatEncoder.encode`.
    """

    def fits(piece: Sequence[Turn]) -> bool:
        return len(encoder.encode(piece, images).ids) <= max_length

    if fits(turns):
        return [list(turns)], 0
    system, dialogue = (turns[:1], turns[1:]) if turns[0].role == "system" else ([], turns)
    pieces: list[list[Turn]] = []
    is_open, dropped_pairs = False, 0
    for begin in range(0, len(dialogue), 2):
        pair = dialogue[begin : begin + 2]
        if is_open and fits([*pieces[-1], *_without_images(pair)]):
            pieces[-1] += _without_images(pair)
            continue
        piece = [*system, *_with_images(pair, images)]
        is_open = fits(piece)
        if is_open:
            pieces.append(piece)
        else:
            dropped_pairs += 1
    return pieces, dropped_pairs


def _without_images(turns: Sequence[Turn]) -> list[Turn]:
    return [Turn(turn.role, re.sub(rf"{IMAGE_TOKEN}\n?", "", turn.text)) for turn in turns]


def _with_images(pair: Sequence[Turn], images: int) -> list[Turn]:
    question, answer = pair
    if question.text.count(IMAGE_TOKEN) == images:
        return [question, answer]
    (words,) = _without_images([question])
    return [Turn("user", f"{IMAGE_TOKEN}\n" * images + words.text), answer]
