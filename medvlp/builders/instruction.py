"""Instruction tuning from its configuration."""

from collections.abc import Sequence

from medvlp.builders.data import as_conversations
from medvlp.builders.feature_cache import Album
from medvlp.builders.llava import build_assistant, chat_encoder, encoder_identity, vqa_model
from medvlp.builders.objectives import Experiment, build_optimisation
from medvlp.config import ConfigError, InstructConfig, LlavaConfig, SourceConfig, TrainConfig
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import cached_lengths
from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.chat.packing import CollateConversations, PrepareConversations
from medvlp.data.chat.supervision import CHECKED_SAMPLES, WrongSupervision, check_supervision
from medvlp.data.dataset import Dataset
from medvlp.data.order import Order
from medvlp.models.llava.language import sliding_window
from medvlp.models.llava.metadata import metadata_of
from medvlp.models.llava.model import Assistant
from medvlp.shards import ShardDataset
from medvlp.training.instruction import Instruction

NAMED_FAULTS = 5
EVALUATED_AT_ONCE = 64
"""Questions in a batch of an evaluation during training."""


def instruct(config: TrainConfig) -> Experiment:
    """An assistant with its language model's loss on the assistant's words."""
    assert isinstance(config.objective, InstructConfig)
    assert isinstance(config.model, LlavaConfig)
    objective, max_pixels = config.objective, config.data.max_pixels
    assistant = build_assistant(config.model)
    check_window(assistant, objective.max_length)
    encoder = chat_encoder(assistant, config.model.language)
    album = Album(assistant, objective.feature_cache, max_pixels)
    sources = Sources(album, encoder, objective, config.data.sources)
    module = Instruction(
        assistant.model, assistant.parts, build_optimisation(config.optim), config.seed, album.blank_shape
    )
    packed = objective.packing != "none"

    def plan(order: Order, views: Sequence[Dataset]) -> PackPlan:
        examples = [view for view in views if isinstance(view, Examples)]
        return PackPlan(order, examples, objective.max_length, packed, objective.weighting)

    collate = CollateConversations(
        assistant.pad_id,
        assistant.image_id,
        assistant.image_tokens,
        objective.packing == "tree",
        objective.weighting,
        flat=packed and config.model.language.attention.startswith("flash"),
    )
    described = metadata_of(assistant)
    card = {"assistant": {**described, "template": encoder.template}, "tokenizer": described["names"]["language"]}
    return Experiment(
        module,
        PrepareConversations(encoder, album.pictures),
        collate,
        card,
        evaluated=lambda identity: vqa_model(assistant, encoder, max_pixels, EVALUATED_AT_ONCE, identity),
        view=sources.view,
        plan=plan,
        replace=False,
        left_out=sources.left_out,
    )


def check_window(assistant: Assistant, max_length: int) -> None:
    """Refuse rows longer than the language model's attention reaches.

    Raises:
        ConfigError: says the window.
    """
    window = sliding_window(assistant.model)
    if window and window < max_length:
        raise ConfigError(
            f"objective.max_length={max_length}: this language model attends to {window} tokens back, and a mask for "
            f"packing knows no window; set objective.max_length={window}"
        )


def check_positions(assistant: Assistant, source: str, longest: int) -> None:
    """Refuse conversations longer than the language model's positions; in a row of several each begins at its first.

    Raises:
        ConfigError: says how many there are.
    """
    limit = getattr(assistant.model.config.text_config, "max_position_embeddings", None)
    if limit and longest > limit:
        raise ConfigError(
            f"data.sources.{source}: the longest conversation has {longest} tokens with its images, and this language model "
            f"has positions for {limit}; set objective.max_length={limit}, which splits it (objective.too_long)"
        )


class Sources:
    """Shards as examples of conversations.

    left_out: what is not trained on, by source.
    """

    def __init__(
        self, album: Album, encoder: ChatEncoder, objective: InstructConfig, configs: dict[str, SourceConfig]
    ) -> None:
        self.album, self.encoder, self.objective, self.configs = album, encoder, objective, configs
        self.left_out: list[dict[str, str]] = []
        self.identity = encoder_identity(encoder)

    def view(self, name: str, dataset: ShardDataset) -> Examples:
        """A source's examples.

        Raises:
            ConfigError: conversations that cannot be trained on, or a stale cache.
        """
        objective = self.objective
        self.album.add(name, dataset)
        shown = as_conversations(dataset, self.configs[name])
        lengths = cached_lengths(shown, self.encoder, objective.max_length, objective.too_long, self.identity)
        faults = [f"{one.key}, conversation {one.conversation}: {one.reason} ({one.detail})" for one in lengths.faults]
        if faults:
            more = f"\n  and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
            raise ConfigError(
                f"data.sources.{name}: {len(faults)} conversations cannot be trained on; `medvlp check` lists them all:\n  "
                + "\n  ".join(faults[:NAMED_FAULTS])
                + more
            )
        self.left_out.extend({"source": name, **vars(one)} for one in lengths.skipped)
        check_positions(self.album.assistant, name, int(max(lengths.tokens, default=0)))
        examples = Examples(shown, lengths, self.encoder, objective.max_length, objective.packing == "tree")
        if not len(examples):
            raise ConfigError(
                f"data.sources.{name}: nothing is left to train on; {len(lengths.skipped)} entries were left out"
            )
        try:
            check_supervision(self.encoder, [examples.read(i) for i in range(min(CHECKED_SAMPLES, len(examples)))])
        except WrongSupervision as error:
            raise ConfigError(f"data.sources.{name}: {error}") from None
        return examples
