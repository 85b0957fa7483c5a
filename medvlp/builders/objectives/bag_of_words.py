"""An assistant's first stage, from its configuration: its projector learns the bag of words of each image."""

from medvlp.builders.llava import build_assistant, chat_encoder
from medvlp.builders.objectives import optimizer_settings
from medvlp.builders.objectives.instruction import image_inputs
from medvlp.config import BagOfWordsConfig, LlavaConfig, TrainConfig
from medvlp.data.bag_of_words import BagOfWordsPipeline, TokenSets
from medvlp.models.llava.metadata import metadata_of
from medvlp.training.module import Objective
from medvlp.training.objectives.bag_of_words import BagOfWords


def bag_of_words(config: TrainConfig) -> Objective:
    """An assistant whose image tokens become like the words of its images' texts."""
    assert isinstance(config.objective, BagOfWordsConfig)
    assert isinstance(config.model, LlavaConfig)
    objective = config.objective
    assistant = build_assistant(config.model)
    encoder = chat_encoder(assistant, config.model.language)
    pipeline = BagOfWordsPipeline(
        TokenSets(assistant.tokenizer, [source.text_fields for source in config.data.sources.values()]),
        image_inputs(assistant, objective.feature_cache, config.data.max_pixels),
        objective.min_samples,
        objective.max_share,
    )
    module = BagOfWords(assistant.model, assistant.parts, optimizer_settings(config.optim), config.seed)
    description = metadata_of(assistant)
    metadata = {
        "assistant": {**description, "template": encoder.template},
        "tokenizer": description["names"]["language"],
    }
    return Objective(module, pipeline, metadata)
