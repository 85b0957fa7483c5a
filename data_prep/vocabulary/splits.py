"""Names of splits as people write them."""

from __future__ import annotations

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "validate", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call splits, in lower case → our name."""
