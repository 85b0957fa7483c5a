"""The vote over sampled responses to one prompt (self-consistency, Wang et al. 2023)."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Self

from medvlp.eval.answers.normalization import normalize
from medvlp.eval.models.answering import Answer
from medvlp.models.api.completion import NOT_ASKED

SINGLE = "one_sample"
SINGLE_NOTE = "a single one of the samples that vote: the mean over them"
"""Next to the score of a vote, what its samples score."""


class Voted(Answer):
    """The response that stands for a vote: the first sample that gives the answer of most samples.

    Its text is empty where two answers have as many votes, which is no guess. Where no sample has an answer that can be read,
    it is the first one.

    samples: all responses. votes: answer → how many samples give it. reasonings: the samples that these were given before.
    reasonings_used: how many of these a second stage was given.
    """

    samples: tuple[str, ...]
    votes: dict[str, int]
    reasonings: tuple[str, ...]
    reasonings_used: int

    @classmethod
    def of(
        cls,
        samples: Sequence[str],
        read: Callable[[str], Any],
        reasonings: Sequence[str] = (),
        reasonings_used: int = 0,
    ) -> Self:
        """The vote of samples. read: a sample → its answer, None where there is none."""
        keys = [key_of(read(sample)) for sample in samples]
        votes = Counter(key for key in keys if key is not None)
        winner = majority(votes)
        text = samples[keys.index(winner)] if winner is not None else ("" if votes else samples[0])
        parts = [part for part in (*samples, *reasonings) if isinstance(part, Answer)]
        endings = [part.finish for part in parts]
        finish = next((ending for ending in endings if ending in NOT_ASKED), endings[0] if endings else "")
        usages = {part.request: part.usage for part in parts}
        usage = sum((Counter(of_request) for of_request in usages.values()), Counter[str]())
        voted = cls(text, finish, usage, "+".join(sorted(usages)))
        voted.samples, voted.votes = tuple(str(sample) for sample in samples), dict(votes.most_common())
        voted.reasonings = tuple(str(reasoning) for reasoning in reasonings)
        voted.reasonings_used = reasonings_used
        return voted


def majority(votes: Counter[str]) -> str | None:
    """The answer with most votes; None where there is none, or more than one."""
    best = votes.most_common(2)
    return None if not best or (len(best) == 2 and best[0][1] == best[1][1]) else best[0][0]


def key_of(answer: Any) -> str | None:
    """An answer as votes count it: texts by their tokens, numbers by their value, sets whatever their order."""
    if answer is None:
        return None
    if isinstance(answer, list | tuple | set | frozenset):
        return "; ".join(sorted(key_of(item) or "" for item in answer)) or "(nothing)"
    if isinstance(answer, str):
        return normalize(answer) or answer
    return f"{float(answer):.12g}" if isinstance(answer, int | float) else str(answer)
