"""Greedy and sampled answers, and likelihoods of continuations, by transformers' own `generate`, many prompts at once.

B: prompts of a batch; L: tokens of a prompt, filled up on the left; T: new tokens; V: vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from medvlp.models.sampling import TokenSampler

Ids = tuple[int, ...]
NONE_BY_DEFAULT = (
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "sequence_bias",
    "exponential_decay_length_penalty",
    "min_new_tokens",
)
"""Settings of generation that change a greedy answer unless they are None."""
NOT_FOR_GENERATE = ("labels", "offset_mapping", "num_crops")
"""What processors add for training."""


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: those of the generation config, else of the configuration and the tokenizer."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    if configured is None:
        configured = tokenizer.eos_token_id
    ends = [configured] if isinstance(configured, int) else list(configured or [])
    return sorted({int(end) for end in ends})


def pad_id(tokenizer: Any) -> int:
    """What fills up rows; no other token sees it."""
    pad = tokenizer.pad_token_id
    return int(pad if pad is not None else tokenizer.eos_token_id or 0)


def forget_settings(model: Any) -> list[str]:
    """Take penalties, temperatures and other settings of generation out of a model, which `generate` would take up again.

    Returns the names of those that would have changed a greedy answer.
    """
    neutral: dict[str, Any] = dict.fromkeys(NONE_BY_DEFAULT)
    neutral |= {
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "encoder_no_repeat_ngram_size": 0,
        "min_length": 0,
    }
    neutral |= {"guidance_scale": 1, "num_beams": 1}
    settings = model.generation_config
    changes = [name for name, value in neutral.items() if getattr(settings, name, None) not in (None, value)]
    model.generation_config = GenerationConfig()
    return sorted(changes)


def greedy(
    model: Any,
    inputs: Any,
    ends: Sequence[int],
    pad: int,
    max_new_tokens: int,
    streamer: Any = None,
    sampler: TokenSampler | None = None,
) -> list[list[int]]:
    """The likeliest token each time, until one of `ends` or `max_new_tokens`: the new tokens of each prompt, without the
    one that ends it. streamer: transformers' own, is handed the tokens of a single prompt as they come. sampler: chooses the
    tokens instead."""
    config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
    )
    processors = {"logits_processor": LogitsProcessorList([_Sampled(sampler)])} if sampler else {}
    ids_BT = model.generate(**inputs, generation_config=config, streamer=streamer, **processors)
    ids_BT = ids_BT[:, inputs["input_ids"].shape[1] :]
    return [_until_end(row, ends) for row in ids_BT.tolist()]


def _until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    stop = next((position for position, token in enumerate(ids) if token in ends), len(ids))
    return ids[:stop]


class _Sampled(LogitsProcessor):
    """Has `generate` take the tokens of a sampler."""

    def __init__(self, sampler: TokenSampler) -> None:
        self.sampler = sampler

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return _only(self.sampler(scores, range(len(scores))), scores)


def _only(token_B: Tensor, scores_BV: Tensor) -> Tensor:
    """Scores by which these tokens are the likeliest."""
    only_BV = torch.full_like(scores_BV, float("-inf"))
    return only_BV.scatter(-1, token_B[:, None], 0.0)


class _Forced(LogitsProcessor):
    """Has `generate` write given tokens, and notes the log-probability of each, and of others that might follow.

    prefixes: the tokens to write behind each prompt; lasts: tokens whose log-probability behind them is asked.
    """

    def __init__(self, prefixes: Sequence[Ids], lasts: Sequence[Sequence[int]]) -> None:
        self.prefixes, self.lasts, self.step = prefixes, lasts, 0
        self.sums = [0.0] * len(prefixes)
        self.totals: list[dict[int, float]] = [{} for _ in prefixes]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logprob_BV = scores.float().log_softmax(-1)
        tokens = [0] * len(self.prefixes)
        for row, (prefix, last) in enumerate(zip(self.prefixes, self.lasts, strict=True)):
            if self.step < len(prefix):
                tokens[row] = prefix[self.step]
                self.sums[row] += float(logprob_BV[row, tokens[row]])
            elif self.step == len(prefix):
                values = logprob_BV[row, torch.tensor(last, device=scores.device)].tolist()
                self.totals[row] = {token: self.sums[row] + value for token, value in zip(last, values, strict=True)}
        self.step += 1
        return _only(torch.tensor(tokens, device=scores.device), scores)


def forced_logprobs(
    model: Any, inputs: Any, prefixes: Sequence[Ids], lasts: Sequence[Sequence[int]], pad: int
) -> list[dict[int, float]]:
    """For each prompt, the log-probability of its prefix and of each token that may come last: token → nats, of all
    together.

    The steps are those of `generate`, so that a likelihood is that of the answer which `greedy` would have written.
    """
    forced = _Forced(prefixes, lasts)
    steps = 1 + max(len(prefix) for prefix in prefixes)
    config = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=steps, min_new_tokens=None, pad_token_id=pad, eos_token_id=None
    )
    model.generate(**inputs, generation_config=config, logits_processor=LogitsProcessorList([forced]))
    return forced.totals
