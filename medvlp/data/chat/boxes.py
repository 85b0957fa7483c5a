"""Boxes of conversations written as a model reads them: in its form, and of what its processor shows of the image."""

import hashlib
import json
from dataclasses import asdict, replace

from medvlp.boxes.forms import BoxStyle
from medvlp.boxes.placeholders import BOXES, with_written_boxes
from medvlp.data.chat.rewriting import ConversationDataset, RewrittenDataset
from medvlp.data.images.decode import size_of
from medvlp.shards import Conversation, Sample


class WrittenBoxes(RewrittenDataset):
    """Conversations with their boxes as text: `<box>` becomes the box, moved by what the processor does to the image.

    Its identity is the dataset's: how boxes are written decides tokens (`tokens_identity`), not the order of samples.

    Args:
        dataset: the shards, their conversations in the wording of the configuration.
        style: form, and what the model sees of an image.
    """

    def __init__(self, dataset: ConversationDataset, style: BoxStyle) -> None:
        super().__init__(dataset, [])
        self.manifest_hash = dataset.manifest_hash
        self.style = style

    def change(self, sample: Sample) -> Sample:
        """With boxes as text. Raises BadSample as `with_written_boxes`."""
        if not any(BOXES in conversation.metadata for conversation in sample.conversations):
            return sample
        return replace(sample, conversations=[self._written(sample, item) for item in sample.conversations])

    def _written(self, sample: Sample, conversation: Conversation) -> Conversation:
        images = [sample.images[name] for name in sorted(sample.images)]
        return with_written_boxes(conversation, lambda position: size_of(images[position]), self.style)


def tokens_identity(encoder_identity: str, style: BoxStyle) -> str:
    """A hash of all that decides the tokens of conversations that may have boxes."""
    return hashlib.sha256(json.dumps([encoder_identity, asdict(style)]).encode()).hexdigest()
