import numpy as np
import pytest
import torch

from medvlp.data.audit.token_costs import LAYOUTS, MeasuredSource, epoch_tokens
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import measure_lengths
from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.chat.packing import CollateConversations, PrepareConversations
from medvlp.data.chat.templates import chat_template
from medvlp.data.dataset import RequestedSamples
from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import Request
from medvlp.shards import ShardDataset
from tests.assistants import vqa_samples
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.datasets import write_split


def encoder(image_tokens: int) -> ChatEncoder:
    tokenizer = tiny_tokenizer("chatml")
    _, template = chat_template(tokenizer)
    return ChatEncoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), image_tokens)


@pytest.mark.parametrize("packing", sorted(LAYOUTS))
@pytest.mark.parametrize(("size", "accumulate"), [(8, 1), (8, 2), (1000, 1)])
def test_tokens_of_an_epoch_are_those_that_batches_hold(tmp_path, packing, size, accumulate):
    chat = encoder(16)
    sources = []
    for name, count, images in (("one", 13, 1), ("more", 9, 2)):
        dataset = ShardDataset(write_split(tmp_path / name, vqa_samples(count, images=images, source=name)))
        sources.append(MeasuredSource(name, 1.0, dataset, measure_lengths(dataset, chat, 160, "split")))
    counted = epoch_tokens(sources, chat, 160, packing, size, accumulate, seed=3)

    grouped, packed = LAYOUTS[packing]
    views = [Examples(source.dataset, source.lengths, chat, 160, grouped) for source in sources]
    order = Order([OrderedSource(s.name, len(v), 1.0, v.manifest_hash) for s, v in zip(sources, views, strict=True)], 3)
    plan = PackPlan(order, views, 160, packed, "token")
    prepare = PrepareConversations(chat, lambda source: torch.zeros(len(source.images), 16, 4))
    units = RequestedSamples([(s.name, v) for s, v in zip(sources, views, strict=True)], prepare, seed=3)
    collate = CollateConversations(0, chat.image_id, 16, packing == "tree", "token")
    positions_held, numbers = 0, plan.epoch(0)
    for begin in range(0, len(numbers), size):
        chosen = numbers[begin : begin + size]
        for packs in plan.divide(chosen, accumulate):
            requests = [Request(0, pack, tuple(int(chosen[position]) for position in pack)) for pack in packs]
            positions_held += collate([units[request] for request in requests]).ids_RL.numel()
    assert counted == positions_held


def test_summary_of_lengths(tmp_path):
    dataset = ShardDataset(write_split(tmp_path / "train", vqa_samples(4, questions=2)))
    lengths = measure_lengths(dataset, encoder(4), 200, "split")
    summary = MeasuredSource("made", 1.0, dataset, lengths).summary()
    assert summary["conversations"] == 6
    assert summary["split"] == 0
    assert summary["an_image"] == 1.5
    assert summary["tokens_most"] == max(lengths.tokens)
    assert summary["supervised_median"] == np.median(lengths.supervised)
    assert summary["supervised_share"] == pytest.approx(sum(lengths.supervised) / sum(lengths.tokens))
    dialogue = int(lengths.tokens[0])  # the only conversation of two questions
    short = measure_lengths(dataset, encoder(4), dialogue - 1, "split")
    assert MeasuredSource("made", 1.0, dataset, short).summary()["split"] == 1
    nothing = measure_lengths(dataset, encoder(4), 8, "drop")
    assert MeasuredSource("made", 1.0, dataset, nothing).summary() == {}
