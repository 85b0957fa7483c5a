"""The fingerprint stage, for deduplication: taken while a sample's pixels are decoded."""

from __future__ import annotations

from data_prep.dedup.fingerprints import fingerprint
from data_prep.dedup.similarity import SIDE
from data_prep.draft import Draft


def describe(draft: Draft, side: int = SIDE) -> Draft:
    """Leave the fingerprint with the draft; the unit writes a table of them with its part. side: of the thumbnails."""
    assert side == SIDE
    draft.fingerprint = fingerprint(draft)
    return draft
