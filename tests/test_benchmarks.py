"""What benchmarks compare is the same, on inputs small enough for a test."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import bootstrap, loss_memory, same_text
from benchmarks.instruct_packing import assert_same
from benchmarks.instruct_ways import Questions, ways
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.templates import chat_template
from medvlp.shards.vocabulary import IMAGE_TOKEN
from tests.assistants import vqa_samples
from tests.data.chat.tiny_tokenizer import tiny_tokenizer


def test_the_ways_of_instruct_packing_give_the_same_gradients():
    tokenizer = tiny_tokenizer()
    encoder = ChatEncoder(tokenizer, chat_template(tokenizer)[1], tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), 4)
    samples = [replace(sample, metadata={**sample.metadata, "image_id": sample.key}) for sample in vqa_samples(6)]
    model, batches_of_way, questions = ways(Questions(samples), tokenizer, encoder)
    assert questions == sum(len(sample.conversations) for sample in samples)
    assert set(batches_of_way) == {"padded", "sequence", "tree"}
    assert assert_same(model, batches_of_way) < 1e-5


def test_the_ways_of_bootstrap_give_the_same_values():
    assert bootstrap.assert_equal(*bootstrap.two_models(60), 40) < 1e-12


@pytest.mark.parametrize("name", loss_memory.LOSSES)
def test_losses_are_open_clips_and_their_bytes_are_counted(name):
    assert loss_memory.assert_equal(name, 48) < loss_memory.TOLERANCE
    ours, theirs = loss_memory.LOSSES[name]
    features = 48 * loss_memory.WIDTH * 4
    assert (
        4 * features < loss_memory.peak(ours, 48) < 8 * features
    )  # with their gradients, and a few of blocks' products
    assert loss_memory.peak(theirs, 48) > 4 * features


def test_ways_of_same_text_contrast_what_they_say():
    classes = np.repeat(np.arange(4), 40)
    rows = same_text.rows_of_step(classes, True, np.random.default_rng(0))
    assert np.array_equal(classes[rows].reshape(-1, 4), np.tile(np.arange(4), (same_text.BATCH // 4, 1)))
    assert len({text for texts in same_text.TEXTS for text in texts}) == 20
    assert same_text.interval([1.0, 2.0, 3.0, 4.0, 5.0]) == {"mean": 3.0, "half": pytest.approx(1.9632, abs=1e-4)}
