from dataclasses import replace

import numpy as np
import pytest
import torch

from medvlp.data.bag_of_words import BagOfWordsPipeline, CollateBagOfWords, PrepareBagOfWords, TokenSets
from medvlp.errors import UserError
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from tests.datasets import pairs, write_split


class Letters:
    """A tokenizer of single letters."""

    def __call__(self, text, add_special_tokens):
        assert text.startswith(" ")
        return {"input_ids": [ord(letter) for letter in text.replace(" ", "")]}


def letters(text):
    return {ord(letter) for letter in text}


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (Sample("k", texts={"caption": "Aba", "roi": "z"}), "ab"),
        (Sample("k", texts={"roi": "z"}), ""),
        (Sample("k", conversations=[Conversation([Turn("user", "<image>\nQ?"), Turn("assistant", "No")])]), "q?no"),
        (Sample("k", texts={"caption": " x "}, conversations=[Conversation([Turn("assistant", "y")])]), "xy"),
    ],
)
def test_words_of_texts_and_conversations_once_each_in_lower_case(sample, said):
    assert TokenSets(Letters(), [["caption"]])(sample, 0) == letters(said)


def test_every_source_has_its_own_fields():
    words = TokenSets(Letters(), [["caption"], ["roi"]])
    sample = Sample("k", texts={"caption": "a", "roi": "b"})
    assert (words(sample, 0), words(sample, 1)) == (letters("a"), letters("b"))


def prepared(caption, images):
    words = TokenSets(Letters(), [["caption"]])
    prepare = PrepareBagOfWords(
        words, lambda sample: torch.full((images, 2, 3), 7.0), {ord("c"): 0, ord("a"): 1, ord("x"): 2}
    )
    return prepare(Sample("k", texts={"caption": caption}), 0, np.random.default_rng(0))


def test_words_outside_the_vocabulary_are_ignored():
    assert prepared("cab", 1)["words"] == [0, 1]
    assert prepared("b", 1)["words"] == []


def test_a_sample_without_an_image_teaches_nothing():
    with pytest.raises(BadSample, match="no_image"):
        prepared("a", 0)


def test_a_batch_knows_whose_each_image_is():
    items = [{"key": str(n), "position": n, **prepared(*case)} for n, case in enumerate([("ax", 2), ("c", 1)])]
    batch = CollateBagOfWords(torch.tensor([99, 97, 120]), torch.zeros(3))(
        [{"items": [item], "bad": [], "total": 1.0} for item in items]
    )
    assert batch.words_BW.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert batch.sample_index_N.tolist() == [0, 0, 1]
    assert batch.images_N.shape == (3, 2, 3)
    assert (batch.keys, batch.positions, batch.bad) == (["0", "1"], [0, 1], [])


def opened(folder, min_samples=2, max_share=0.7):
    captions = ["ab", "abc", "ad", "a"]
    samples = [replace(sample, texts={"caption": text}) for sample, text in zip(pairs(4), captions, strict=True)]
    shards = ShardDataset(write_split(folder / "made", samples))
    pixels = lambda sample: torch.zeros(1, 2, 3)  # noqa: E731
    pipeline = BagOfWordsPipeline(TokenSets(Letters(), [["caption"]]), pixels, min_samples, max_share)
    pipeline.open({"made": shards})
    return pipeline


def test_the_vocabulary_has_words_that_are_neither_rare_nor_common(tmp_path):
    collate = opened(tmp_path).collate
    assert collate.vocabulary_W.tolist() == [ord("b")]  # a is in every sample, c and d in one each
    assert collate.prior_W.tolist() == [0.0]  # half of the samples have it


def test_a_vocabulary_without_words_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no word occurs in at least objective.min_samples=5 samples"):
        opened(tmp_path, min_samples=5)
