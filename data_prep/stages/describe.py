"""What copies of a sample are recognised by, taken while its pixels are decoded."""

from __future__ import annotations

from data_prep.dedup.fingerprints import describe as marks_of
from data_prep.dedup.similarity import SIDE
from data_prep.draft import Draft


def describe(draft: Draft, side: int = SIDE) -> Draft:
    """Leave the marks with the draft; the unit writes them beside its part. side: of the thumbnails, as marks have it."""
    assert side == SIDE
    draft.marks = marks_of(draft)
    return draft
