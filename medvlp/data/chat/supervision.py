"""A check that the tokens which training supervises are the assistant's words."""

from collections.abc import Sequence

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.templates import split_thought
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample

CHECKED_SAMPLES = 32
"""Samples of each source whose supervised tokens are decoded and compared before a run."""


class WrongSupervision(UserError):
    """The supervised tokens are not the assistant's turns, or there are none."""


def check_supervision(encoder: ChatEncoder, samples: Sequence[Sample]) -> None:
    """Decode what is supervised in some samples and compare it with the assistant's turns, but for white space at their
    edges, which many templates trim.

    Raises:
        WrongSupervision: they differ, or none of the samples could be encoded.
    """
    checked, problem = 0, "there are no conversations"
    trained = encoder.thoughts == "supervised"
    for sample in samples:
        for number, conversation in enumerate(sample.conversations):
            name = f"{sample.key}, conversation {conversation.id or number}"
            try:
                encoded = encoder.encode(conversation.turns, len(sample.images))
            except BadSample as error:  # loading counts and replaces it
                problem = f"the last of them, {name}: {error}"
                continue
            turns = [split_thought(turn.text) for turn in conversation.turns if turn.role == "assistant"]
            expected = [part for thought, answer in turns for part in (thought if trained else "", answer) if part]
            decoded = [part.strip() for text in encoder.answers(encoded) for part in split_thought(text) if part]
            if [_plain(encoder, text) for text in expected] != decoded:
                raise WrongSupervision(
                    f"{name}: the supervised tokens are not the assistant's turns, so training would learn something else. "
                    f"Expected {expected}, found {decoded}. Check model.language.template; medvlp check shows the tokens in "
                    "colour"
                )
            checked += 1
    if not checked:
        raise WrongSupervision(f"no conversation of {len(samples)} samples can be trained on; {problem}")


def _plain(encoder: ChatEncoder, text: str) -> str:
    """The text after the tokenizer's own losses: some compose Unicode characters, or know no emoji."""
    ids = encoder.tokenizer(text.strip(), add_special_tokens=False, verbose=False)["input_ids"]
    return encoder.decode(ids).strip()
