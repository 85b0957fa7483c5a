import pytest

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.templates import chat_template
from medvlp.shards import ShardDataset
from tests.assistants import vqa_samples
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.datasets import write_split

TOKENS = 4
"""Of an image."""


@pytest.fixture(scope="session")
def encoder():
    tokenizer = tiny_tokenizer("chatml")
    _, template = chat_template(tokenizer)
    return ChatEncoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), TOKENS)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return ShardDataset(write_split(tmp_path_factory.mktemp("made") / "train", vqa_samples(9)))
