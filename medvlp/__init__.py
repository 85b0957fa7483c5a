"""medvlp: from medical figures and reports to a published, comparable vision-language model. Research use only."""

from pathlib import Path
from typing import Any

__all__ = ["load"]


def load(checkpoint: str | Path) -> tuple[Any, Any, Any]:
    """A trained CLIP model, ready for use: open_clip's model in eval mode, its image transform and its tokenizer.

    The three work together as open_clip's do:

        model, transform, tokenizer = medvlp.load("runs/rocov2/checkpoints/last.ckpt")
        features = model.encode_image(transform(image)[None], normalize=True)   # (1, D)
        texts = model.encode_text(tokenizer(["a chest X-ray"]), normalize=True)  # (1, D)

    Args:
        checkpoint: a file of `runs/<run_name>/checkpoints/`.
    Raises:
        CheckpointError: missing, damaged, or not a CLIP model of ours.
    """
    from medvlp.build import load_clip

    clip = load_clip(checkpoint).clip
    return clip.model, clip.transform, clip.tokenizer
