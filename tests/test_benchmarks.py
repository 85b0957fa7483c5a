"""What benchmarks compare is the same, on inputs small enough for a test."""

from dataclasses import replace

from benchmarks import bootstrap
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
