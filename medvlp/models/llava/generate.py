"""Greedy answers and likelihoods of continuations, batched, behind images that are looked at once.

J: jobs of a batch; G: groups, the jobs of a batch that share an image; N: images; P: tokens an image; L: tokens of a
row; B: tokens of a shared prefix; T: tokens of a suffix; S: tokens in the cache; D: width of the language model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medvlp.models.llava.language import sliding_window
from medvlp.models.llava.model import Assistant, projected_features
from medvlp.models.sampling import Noise, likeliest

Ids = NDArray[np.int64]
Job = tuple[Ids, Tensor]
"""A prompt's ids (L,), its images' tokens included, and pixels (n, 3, S, S) or (0,) without images. Jobs in a row that
hold the very same tensor are one group."""


@dataclass
class _Suffixes:
    """The rows of a batch behind their shared prefixes, filled up on the right.

    hidden_JTD: last hidden states; lengths_J: tokens of each suffix; positions_J: the position that comes next in a row;
    mask_JS: which entries of the cache are tokens.
    """

    hidden_JTD: Tensor
    lengths_J: Tensor
    positions_J: Tensor
    mask_JS: Tensor
    cache: Any


class BatchedGenerator:
    """An assistant that answers many prompts at once.

    What the jobs about an image have in common is computed once, and its keys and values are handed to all of them; jobs
    of several images share a batch. No token sees the filling, and it moves no position, so the texts are those of
    `model.generate(do_sample=False)` on each prompt alone, but for rounding. Of the generation config only the tokens that
    end an answer count: a repetition penalty (Qwen2.5's instruct models have one) is the language model's own, from before
    it was tuned, and exported assistants do not keep it either.

    Args:
        assistant: what answers.
        stop_ids: tokens that end an answer, other than those of the model's generation config and the tokenizer's own: the
            token with which the chat template ends one.
        batch_size: prompts in a batch. The texts do not depend on it, but for rounding.
    """

    def __init__(self, assistant: Assistant, stop_ids: Sequence[int] = (), batch_size: int = 64) -> None:
        self.assistant, self.batch_size = assistant, batch_size
        configured = assistant.model.generation_config.eos_token_id
        ends = {*stop_ids, *([configured] if isinstance(configured, int) else configured or [])}
        if assistant.tokenizer.eos_token_id is not None:
            ends.add(assistant.tokenizer.eos_token_id)
        self.stop_ids = sorted(ends)

    @property
    def longest(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        config = self.assistant.model.config.text_config
        return min(int(config.max_position_embeddings), sliding_window(self.assistant.model) or 2**31)

    def generate(self, jobs: Sequence[Job], max_new_tokens: int, noise: Noise | None = None) -> list[str]:
        """What the model says to each prompt: the likeliest token each time, until one of `stop_ids` or `max_new_tokens`.
        The text has no special tokens. noise: sample tokens instead.

        Raises:
            ValueError: a prompt and its answer would not fit into what the model was made for.
        """
        texts: list[str] = []
        self._check_lengths([len(ids) + max_new_tokens for ids, _ in jobs])
        with answering(self.assistant.model):
            for batch in self._batches(jobs):
                indices = range(len(texts), len(texts) + len(batch))
                for ids in self._decode(batch, max_new_tokens, noise.sampler(indices) if noise else likeliest):
                    texts.append(
                        self.assistant.tokenizer.decode(
                            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                        )
                    )
        return texts

    def loglikelihood(self, jobs: Sequence[Job], options: Sequence[Sequence[Ids]]) -> list[list[tuple[float, int]]]:
        """For each job and each of its options, the log-probability of the option's tokens behind the prompt (their sum,
        in nats) and how many they are.

        Raises:
            ValueError: an option without tokens, or too long.
        """
        rows = [
            (np.concatenate([ids, option]), pixels)
            for (ids, pixels), job_options in zip(jobs, options, strict=True)
            for option in job_options
        ]
        lengths = [len(option) for job_options in options for option in job_options]
        if 0 in lengths:
            raise ValueError("an option has no tokens: it has no likelihood")
        self._check_lengths([len(ids) for ids, _ in rows])
        scores: list[tuple[float, int]] = []
        with answering(self.assistant.model):
            for batch in self._batches(rows):
                batch_lengths = lengths[len(scores) : len(scores) + len(batch)]
                scores += zip(self._sums(batch, batch_lengths), batch_lengths, strict=True)
        remaining = iter(scores)
        return [[next(remaining) for _ in job_options] for job_options in options]

    def _check_lengths(self, lengths: Sequence[int]) -> None:
        if lengths and max(lengths) > self.longest:
            raise ValueError(
                f"a prompt with its answer takes {max(lengths)} tokens; this language model was made for {self.longest}"
            )

    def _batches(self, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
        for start in range(0, len(jobs), self.batch_size):
            yield jobs[start : start + self.batch_size]

    def _decode(
        self, jobs: Sequence[Job], max_new_tokens: int, choose: Callable[[Tensor, Sequence[int]], Tensor]
    ) -> list[list[int]]:
        """Tokens of each answer, without the one that ends it. choose: (logits_BV, numbers of the jobs) → token_B."""
        suffixes = self._read(jobs, [0] * len(jobs))
        model = self.assistant.model
        device = suffixes.hidden_JTD.device
        stops = torch.tensor(self.stop_ids, device=device)
        answers: list[list[int]] = [[] for _ in jobs]
        rows = torch.arange(len(jobs), device=device)
        mask_JS, positions_J = suffixes.mask_JS, suffixes.positions_J
        hidden_JD = suffixes.hidden_JTD[rows, suffixes.lengths_J - 1]
        alive_J = torch.ones(len(jobs), dtype=torch.bool, device=device)
        for step in range(1, max_new_tokens + 1):
            token_J = choose(model.lm_head(hidden_JD), rows.tolist())
            alive_J &= ~torch.isin(token_J, stops)
            for row, token, is_alive in zip(rows.tolist(), token_J.tolist(), alive_J.tolist(), strict=True):
                if is_alive:
                    answers[row].append(token)
            if step == max_new_tokens or not alive_J.any():
                break
            if 2 * int(alive_J.sum()) <= len(rows):  # answers differ in length: most are done long before the last
                alive = alive_J.nonzero()[:, 0]
                suffixes.cache.batch_select_indices(alive)
                rows, token_J, mask_JS, positions_J = rows[alive], token_J[alive], mask_JS[alive], positions_J[alive]
                alive_J = alive_J[alive]
            mask_JS = torch.cat([mask_JS, mask_JS.new_ones(len(rows), 1)], dim=1)
            embeds_J1D = model.get_input_embeddings()(token_J[:, None])
            hidden_JD = self._forward(embeds_J1D, mask_JS, positions_J[:, None], suffixes.cache)[:, -1]
            positions_J = positions_J + 1
        return answers

    def _sums(self, jobs: Sequence[Job], lengths: Sequence[int]) -> list[float]:
        """Log-probability of the last `lengths` tokens of each row."""
        suffixes = self._read(jobs, lengths)
        sums = []
        for row, ((ids, _), length) in enumerate(zip(jobs, lengths, strict=True)):
            end = int(suffixes.lengths_J[row])
            hidden_OD = suffixes.hidden_JTD[row, end - 1 - length : end - 1]
            logprob_OV = self.assistant.model.lm_head(hidden_OD).float().log_softmax(-1)
            target_O = torch.from_numpy(ids[-length:]).to(logprob_OV.device)
            sums.append(float(logprob_OV.gather(1, target_O[:, None]).double().sum()))
        return sums

    def _read(self, jobs: Sequence[Job], reserved: Sequence[int]) -> _Suffixes:
        """Prefill: the shared prefixes of all groups, then the suffixes of all jobs.

        reserved: tokens at the end of each job that with the one before them stand in its suffix.
        """
        groups = group(jobs)
        image_id = self.assistant.image_id
        begins = [shared_prompt_prefix([jobs[j][0] for j in g], max(reserved[j] for j in g), image_id) for g in groups]
        features = self._features([jobs[g[0]][1] for g in groups])
        embeds = [self._embed(jobs[j][0], features[i]) for i, g in enumerate(groups) for j in g]
        device, cache = embeds[0].device, _cache()
        group_J = torch.tensor([i for i, g in enumerate(groups) for _ in g], device=device)
        begin_G = torch.tensor(begins, device=device)
        mask_JB = torch.empty(len(jobs), 0, dtype=torch.long, device=device)
        if max(begins):
            embeds_GBD = nn.utils.rnn.pad_sequence(
                [embeds[g[0]][:begin] for g, begin in zip(groups, begins, strict=True)], batch_first=True
            )
            steps_B = torch.arange(embeds_GBD.shape[1], device=device)
            mask_GB = (steps_B < begin_G[:, None]).long()
            self._forward(embeds_GBD, mask_GB, steps_B.expand(len(groups), -1), cache)
            cache.batch_select_indices(group_J)
            mask_JB = mask_GB[group_J]
        begin_J = begin_G[group_J]
        rows = [row[begin:] for row, begin in zip(embeds, begin_J.tolist(), strict=True)]
        lengths_J = torch.tensor([len(suffix) for suffix in rows], device=device)
        embeds_JTD = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        steps_T = torch.arange(embeds_JTD.shape[1], device=device)
        mask_JS = torch.cat([mask_JB, (steps_T < lengths_J[:, None]).long()], dim=1)
        hidden_JTD = self._forward(embeds_JTD, mask_JS, begin_J[:, None] + steps_T, cache)
        return _Suffixes(hidden_JTD, lengths_J, begin_J + lengths_J, mask_JS, cache)

    def _features(self, pixels: Sequence[Tensor]) -> list[Tensor | None]:
        """(n·P, D) for each group, None without images."""
        model = self.assistant.model
        counts = [len(images) if images.ndim > 1 else 0 for images in pixels]
        if not sum(counts):
            return [None] * len(pixels)
        weight = next(model.model.vision_tower.parameters())
        pixels_N = torch.cat([images for images, count in zip(pixels, counts, strict=True) if count])
        features_NPD = projected_features(model, pixels_N.to(weight))
        return [group_PD.flatten(0, 1) if len(group_PD) else None for group_PD in features_NPD.split(counts)]

    def _embed(self, ids: Ids, features: Tensor | None) -> Tensor:
        """(L, D): words, and features at the image tokens."""
        table = self.assistant.model.get_input_embeddings()
        ids_L = torch.from_numpy(ids).to(table.weight.device)
        embeds_LD: Tensor = table(ids_L)
        is_image_L = ids_L == self.assistant.image_id
        count = 0 if features is None else len(features)
        if int(is_image_L.sum()) != count:
            raise ValueError(f"a prompt has {int(is_image_L.sum())} image tokens, its images give {count}")
        if features is None:
            return embeds_LD
        return embeds_LD.masked_scatter(is_image_L[:, None], features.to(embeds_LD.dtype))

    def _forward(self, embeds: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        output = self.assistant.model.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True
        )
        return output.last_hidden_state


def group(jobs: Sequence[Job]) -> list[list[int]]:
    """Numbers of neighbouring jobs that hold the same pixels, and no prompt."""
    groups: list[list[int]] = []
    for number, (_, pixels) in enumerate(jobs):
        if number and pixels is jobs[number - 1][1]:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def shared_prompt_prefix(prompts: Sequence[Ids], reserved: int, image_id: int) -> int:
    """Length of the prefix that prompts share, up to their last common image.

    Questions that happen to begin with the same words are not joined any further: prefixes of one length need no filling.
    `reserved` tokens at the end of each, and one before them, are never shared.
    """
    shortest = min(len(ids) for ids in prompts) - 1 - reserved
    rows = np.stack([ids[:shortest] for ids in prompts])
    differences = np.flatnonzero((rows != rows[0]).any(axis=0))
    common = rows[0, : differences[0] if len(differences) else shortest]
    images = np.flatnonzero(common == image_id)
    return int(images[-1]) + 1 if len(images) else len(common)


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients; every module's own mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _cache() -> Any:
    from transformers import DynamicCache

    # Without the config: layers with a window would drop tokens by their position, and filling takes positions.
    return DynamicCache()
