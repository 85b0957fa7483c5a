"""An assistant's first stage, from its configuration: its projector learns the words of images."""

from collections import Counter

import torch

from medvlp.builders.data import open_shards
from medvlp.builders.feature_cache import Album
from medvlp.builders.llava import build_assistant, chat_encoder
from medvlp.builders.objectives import Experiment, build_optimisation
from medvlp.config import BagOfWordsConfig, ConfigError, LlavaConfig, TrainConfig
from medvlp.data.bag_of_words import CollateWords, PrepareWords, WordsOf
from medvlp.data.dataset import Dataset
from medvlp.models.llava.metadata import metadata_of
from medvlp.shards import BadSample, ShardDataset
from medvlp.training.bag_of_words import Words


def words(config: TrainConfig) -> Experiment:
    """An assistant whose image tokens become like the words of its images' texts."""
    assert isinstance(config.objective, BagOfWordsConfig)
    assert isinstance(config.model, LlavaConfig)
    objective = config.objective
    assistant = build_assistant(config.model)
    encoder = chat_encoder(assistant, config.model.language)
    album = Album(assistant, objective.feature_cache, config.data.max_pixels)
    words_of = WordsOf(assistant.tokenizer, [source.text_fields for source in config.data.sources.values()])
    shares = word_shares(config, words_of)
    known = {word: share for word, share in shares.items() if share <= objective.max_share}
    if not known:
        raise ConfigError(
            f"no word occurs in at least objective.min_samples={objective.min_samples} samples and in at most "
            f"objective.max_share={objective.max_share} of them; lower the one or raise the other"
        )
    module = Words(
        assistant.model,
        assistant.parts,
        build_optimisation(config.optim),
        config.seed,
        torch.tensor(list(known)),
        torch.tensor(list(known.values())),
    )

    def view(name: str, dataset: ShardDataset) -> Dataset:
        album.add(name, dataset)
        return dataset

    prepare = PrepareWords(words_of, album.pictures, {word: place for place, word in enumerate(known)})
    described = metadata_of(assistant)
    card = {"assistant": {**described, "template": encoder.template}, "tokenizer": described["names"]["language"]}
    return Experiment(module, prepare, CollateWords(len(known)), card, view=view)


def word_shares(config: TrainConfig, words_of: WordsOf) -> dict[int, float]:
    """Word → share of the samples that have it, for words of at least `min_samples` samples, in the order of ids."""
    assert isinstance(config.objective, BagOfWordsConfig)
    counts: Counter[int] = Counter()
    total = 0
    for number, source in enumerate(config.data.sources.values()):
        dataset = open_shards(source.path)
        for row in range(len(dataset)):
            try:
                counts.update(words_of(dataset.read(row), number))
            except BadSample:
                continue  # training meets it again, and counts it
            total += 1
    return {word: counts[word] / total for word in sorted(counts) if counts[word] >= config.objective.min_samples}
