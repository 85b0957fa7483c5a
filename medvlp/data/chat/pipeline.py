"""The batch pipeline of instruction tuning: from shards to batches of packed conversations."""

from collections.abc import Callable, Sequence

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import Lengths, cached_lengths
from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.chat.packing import CollateConversations, PrepareConversations
from medvlp.data.chat.rewriting import ConversationDataset
from medvlp.data.chat.supervision import CHECKED_SAMPLES, WrongSupervision, check_supervision
from medvlp.data.dataset import Dataset
from medvlp.data.images.feature_cache import FeatureCache, Pictures
from medvlp.data.order import Order
from medvlp.data.pipeline import BatchPipeline, OpenedSources, Sources
from medvlp.errors import UserError
from medvlp.shards import ShardDataset

MAX_FAULTS = 5


class ConversationPipeline(BatchPipeline):
    """Shards → batches of conversations, several in a row.

    Args:
        encoder: conversations → tokens.
        encoder_identity: a hash of all that decides those tokens.
        conversations: name of a source, its shards → its conversations in the wording of the configuration.
        images: pixels, or features that are computed once.
        collate: examples → batch.
        max_length: tokens of a row.
        too_long: "split" or "drop".
        packed: examples share rows.
        max_positions: tokens that the language model has positions for; None where there is no limit.
    """

    replaces_bad = False
    prepare: PrepareConversations
    collate: CollateConversations

    def __init__(
        self,
        encoder: ChatEncoder,
        encoder_identity: str,
        conversations: Callable[[str, ShardDataset], ConversationDataset],
        images: Pictures | FeatureCache,
        collate: CollateConversations,
        *,
        max_length: int,
        too_long: str,
        packed: bool,
        max_positions: int | None,
    ) -> None:
        self.encoder, self.encoder_identity, self.conversations = encoder, encoder_identity, conversations
        self.images, self.collate = images, collate
        self.max_length, self.too_long, self.packed, self.max_positions = max_length, too_long, packed, max_positions

    def write_caches(self, sources: Sources) -> None:
        if isinstance(self.images, FeatureCache):
            self.images.write(sources)

    def open(self, sources: Sources) -> OpenedSources:
        pictures = self.images.open(sources) if isinstance(self.images, FeatureCache) else self.images
        self.prepare = PrepareConversations(self.encoder, pictures)
        datasets: dict[str, Dataset] = {}
        skipped: list[dict[str, str]] = []
        for name, shards in sources.items():
            dataset = self.conversations(name, shards)
            lengths = cached_lengths(dataset, self.encoder, self.max_length, self.too_long, self.encoder_identity)
            skipped += [{"source": name, **vars(entry)} for entry in lengths.skipped]
            datasets[name] = self._examples(name, dataset, lengths)
        return OpenedSources(datasets, skipped)

    def _examples(self, name: str, dataset: ConversationDataset, lengths: Lengths) -> Examples:
        """A source's examples, their supervised tokens tested.

        Raises:
            UserError: conversations that cannot be trained on.
        """
        faults = [
            f"{fault.key}, conversation {fault.conversation}: {fault.reason} ({fault.detail})"
            for fault in lengths.faults
        ]
        if faults:
            remainder = f"\n  and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
            raise UserError(
                f"data.sources.{name}: {len(faults)} conversations cannot be trained on; `medvlp check` lists them all:\n  "
                + "\n  ".join(faults[:MAX_FAULTS])
                + remainder
            )
        self._check_positions(name, int(max(lengths.tokens, default=0)))
        examples = Examples(dataset, lengths, self.encoder, self.max_length, self.collate.tree)
        if not len(examples):
            raise UserError(
                f"data.sources.{name}: nothing is left to train on; {len(lengths.skipped)} entries were left out"
            )
        try:
            check_supervision(self.encoder, [examples.read(i) for i in range(min(CHECKED_SAMPLES, len(examples)))])
        except WrongSupervision as error:
            raise UserError(f"data.sources.{name}: {error}") from None
        return examples

    def _check_positions(self, name: str, longest: int) -> None:
        """Refuse conversations longer than the language model's positions; in a row of several each begins at its first."""
        if self.max_positions and longest > self.max_positions:
            raise UserError(
                f"data.sources.{name}: the longest conversation has {longest} tokens with its images, and this language model "
                f"has positions for {self.max_positions}; set objective.max_length={self.max_positions}, which splits it "
                f"(objective.too_long)"
            )

    def plan(self, order: Order, datasets: Sequence[Dataset]) -> PackPlan:
        """Rows of several examples, evenly filled."""
        examples = [dataset for dataset in datasets if isinstance(dataset, Examples)]
        return PackPlan(order, examples, self.max_length, self.packed, self.collate.weighting)
