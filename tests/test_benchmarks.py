"""What benchmarks compare is the same, on inputs small enough for a test."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import bootstrap, clip_step, clip_towers, loss_memory, same_text
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


TINY = clip_towers.Scale(
    texts=16,
    pairs=16,
    timm="test_vit",
    side=160,
    depth=1,
    bert={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    native={
        "embed_dim": 32,
        "vision_cfg": {"image_size": 160, "layers": 1, "width": 64, "patch_size": 32},
        "text_cfg": {"width": 32, "heads": 2, "layers": 2, "vocab_size": 49408, "context_length": 77},
    },
)


@pytest.mark.parametrize("context", [77, 256])
@pytest.mark.parametrize("is_native", [False, True], ids=["bert", "native"])
def test_steps_of_clip_step_have_the_losses_of_open_clips_loop(is_native, context, tmp_path):
    towers = (
        clip_towers.native_towers(TINY, context) if is_native else clip_towers.bert_towers(TINY, tmp_path, TINY.depth)
    )
    texts = [" ".join(["lesion"] * (1 + row * row % 97)) for row in range(32)]
    images_NCHW = torch.randint(0, 256, (32, 3, 160, 160), dtype=torch.uint8)
    steps = clip_step.Steps(towers, images_NCHW, texts, context, TINY.pairs, tmp_path)
    for run in (steps.open_clip, steps.medvlp):
        steps.restart()
        run()
    assert len(steps.losses["medvlp"]) == TINY.steps
    assert steps.losses["medvlp"][0] != pytest.approx(steps.losses["medvlp"][1], abs=1e-3)  # something was learned
    assert steps.difference() < clip_step.TOLERANCE


def test_ways_of_a_text_tower_have_the_same_gradients(tmp_path):
    towers = clip_towers.bert_towers(TINY, tmp_path)
    texts = [" ".join(["lesion"] * (1 + row * row % 97)) for row in range(TINY.texts)]
    runs, errors = clip_step.TextTower(towers.model, towers.tokenize(texts, 256)).compared()
    for run in runs.values():
        towers.model.zero_grad()
        run()
    assert set(errors) == {"fixed", "longest", "by length"}
    assert max(errors.values()) < clip_step.TOLERANCE
