"""Copies are told from neighbouring slices, and from the same slice of another person."""

from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

from data_prep.dedup.duplicates import find_copies
from data_prep.dedup.visual_matches import Limits
from tests.data_prep.dedup.slices import neighbours, planted_marks


def precision_and_recall(folder: Path, pictures: dict[str, Image.Image], copies: int) -> tuple[float, float, list]:
    """Of the pairs of pictures called copies those that show one slice, and of the latter those that were found."""
    marks, names = planted_marks(folder, pictures, copies)
    copies = find_copies(marks, Limits())
    assert copies.content_I.tolist() == list(range(len(names)))  # a content a row: no two have the same bytes
    copied = copies.matches
    copied_pairs = {(int(a), int(b)) for a, b in zip(copied.first_E, copied.second_E, strict=True)}
    true = {pair for pair in combinations(range(len(names)), 2) if names[pair[0]] == names[pair[1]]}
    wrong = sorted((names[a], names[b]) for a, b in copied_pairs - true)
    return len(copied_pairs & true) / len(copied_pairs), len(copied_pairs & true) / len(true), wrong


def test_copies_beside_neighbouring_slices_and_other_heads(test_data, tmp_path):
    pictures = neighbours(test_data, range(4), range(80, 85), 2, range(30, 33))
    precision, recall, wrong = precision_and_recall(tmp_path / "marks", pictures, 1)
    assert (precision, recall, wrong) == (1, 1, [])


@pytest.mark.slow
def test_copies_among_all_slices_of_heads_and_chests(test_data, tmp_path, capsys):
    """Slices a millimetre apart of the template and five heads, and of six chests; the figures are docs/results.md's."""
    pictures = neighbours(test_data, range(6), range(90, 110), 6, range(10, 54, 4))
    precision, recall, wrong = precision_and_recall(tmp_path / "marks", pictures, 1)
    with capsys.disabled():
        print(
            f"\n{len(pictures)} slices, a copy of each: precision {precision:.4f}, recall {recall:.4f}; wrong {wrong}"
        )
    assert precision >= 0.98
    assert recall >= 0.98
