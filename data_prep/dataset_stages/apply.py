"""The dataset stages of a plan, applied in order to the samples of all parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.dataset_stages.decisions import Decisions
from data_prep.dataset_stages.part_samples import PartSamples
from data_prep.dataset_stages.splits import apply_splits, moves_between
from data_prep.errors import PrepError

if TYPE_CHECKING:
    from data_prep.jobs import Part


def apply_dataset_stages(
    folder: Path, parts: Sequence[Part], stages: list[dict[str, Any]], evaluations: Sequence[str]
) -> Decisions:
    """What becomes of the parts' samples. evaluations: folders of the splits that `decontaminate` names, in order."""
    samples = PartSamples(folder, parts)
    by_name = {entry["stage"]: entry for entry in stages}
    published_N = samples.published_splits()
    decisions = Decisions(published_N, np.ones(len(samples), bool))
    apply_splits(decisions, samples, by_name["split"])
    decisions.moves.update(moves_between(published_N, decisions.split_N))
    with _full_disk_explained(folder):
        if "decontaminate" in by_name and len(samples):
            from data_prep.dataset_stages.decontamination import decontaminate

            decontaminate(decisions, samples, by_name["decontaminate"], evaluations)
        if "duplicates" in by_name and len(samples):
            from data_prep.dataset_stages.duplicates import drop_duplicates

            drop_duplicates(decisions, samples, by_name["duplicates"])
    return decisions


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    """Thumbnails are spooled to a file without a name, about which the system says nothing when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise PrepError(
            f"what copies are recognised by cannot be put in {folder}: {error.strerror}; make room"
        ) from None
