"""Tokens are drawn by their probabilities, by numbers that belong to a response and not to its batch."""

import numpy as np
import pytest
import torch

from medvlp.models.sampling import Noise, TokenSampler, tokens_at

LOGITS = torch.tensor([[2.0, 0.5, -1.0, float("-inf"), 1.0]])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_over_all_numbers_each_token_has_its_probability(temperature):
    uniform_B = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    token_B = tokens_at(LOGITS.expand(10_000, -1), uniform_B, temperature)
    probability_V = (LOGITS[0].double() / temperature).softmax(-1)
    counts_V = torch.bincount(token_B, minlength=5).double() / 10_000
    assert torch.allclose(counts_V, probability_V, atol=1e-4)


def test_top_p_keeps_the_likeliest_tokens_and_the_ends_are_tokens_that_can_be():
    uniform_B = torch.tensor([0.0, 0.3, 0.999_999_999_999], dtype=torch.float64)
    logits_BV = LOGITS.expand(3, -1)
    probability = LOGITS[0].softmax(-1)
    assert float(probability[0]) < 0.7 < float(probability[0] + probability[4])
    assert set(tokens_at(logits_BV, uniform_B, 1.0, top_p=0.7).tolist()) == {0, 4}
    assert tokens_at(logits_BV, uniform_B, 1.0, top_p=0.01).tolist() == [0, 0, 0]  # one token stays
    impossible_ends = torch.tensor([[float("-inf"), 0.0, 0.0, float("-inf")]]).expand(3, -1)
    assert tokens_at(impossible_ends, uniform_B, 1.0).tolist() == [1, 1, 2]


def test_a_rows_tokens_do_not_depend_on_its_batch():
    logits_BV = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 50)))
    noise = Noise([7, 8, 9], 1.0)
    together = noise.sampler(range(3))
    steps = [together(logits_BV, [0, 1, 2]) for _ in range(4)]
    alone = noise.sampler([1])
    assert [int(alone(logits_BV[1:2], [0])) for _ in range(4)] == [int(step[1]) for step in steps]
    sampler = TokenSampler([7, 8, 9], 1.0)
    sampler(logits_BV, [0, 1, 2])
    assert int(sampler(logits_BV[2:], [2])) == int(steps[1][2])  # the others have ended
