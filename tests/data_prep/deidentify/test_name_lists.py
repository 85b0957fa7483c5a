"""Lists of persons without titles in credit lines, and towns: what goes, and what looks like it and stays."""

import importlib.util
import random

import pytest

from data_prep.deidentify.text import deidentify
from tests.data_prep.deidentify.notes_words import FIRST, LAST

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("philter_lite") is None, reason="needs the lists of names: pip install 'medvlp[deid]'"
)  # to import it takes seconds

HEADS = [
    *("Image courtesy of {}.", "Courtesy: {}.", "Image credit: {}", "Photo: {}.", "Case contributed by {}."),
    *("Contributors: {}.", "Authors: {}", "Written by {}.", "Provided by {}, 2019.", "Illustration by {}."),
    *("Reproduced with permission from {}.", "From the collection of {}.", "Radiologists: {}.", "Team: {}."),
]


def credit_line(half: int, seed: int) -> tuple[str, list[str]]:
    """A caption with a line of two to four persons in one of four forms, and their surnames."""
    chance = random.Random(seed)
    count = chance.choice((2, 3, 3, 4))
    firsts, lasts = ([chance.choice(names[half]) for _ in range(count)] for names in (FIRST, LAST))
    form = chance.choice(("{first} {last}", "{first[0]}. {last}", "{last} {first[0]}", "{last}, {first[0]}."))
    names = [form.format(first=first, last=last) for first, last in zip(firsts, lasts, strict=True)]
    separator = "; " if form.startswith("{last},") else ", "
    join = separator if separator == "; " else chance.choice((", ", " and ", ", and ", " & "))
    line = chance.choice(HEADS).format(separator.join(names[:-1]) + join + names[-1])
    return f"Axial CT shows a mass in the left lung. {line}", lasts


@pytest.mark.parametrize("half", [0, 1])
def test_names_in_credit_lines_go(half):
    remaining = 0
    for seed in range(60):
        text, lasts = credit_line(half, seed)
        (clean,), counts = deidentify([text])
        remaining += any(last in clean for last in lasts)
        assert clean.startswith("Axial CT shows a mass in the left lung.")
        assert counts["name"] >= 1
    assert remaining <= 2  # of 60 lines


@pytest.mark.parametrize(
    "text",
    [
        "Weber A, Weber B and Weber C fractures of the ankle.",
        "Serology for Hepatitis B, Hepatitis C and Vitamin D was negative.",
        "Left Lung, Right Lung and Left Atrium are labelled.",
        "Stained with Masson Trichrome, Congo Red and Prussian Blue.",
        "T1 and T2 images, Series A and Series B, Panel C.",
        "Child A, Child B and Child C cirrhosis.",
        "Source: Axial CT, Coronal CT and Sagittal CT.",
        "Readers: two radiologists.",
        "Chest, PA and lateral views. Compared to Chest, AP.",
        "Transferred from Cardiology to Radiology in March.",
        "Born in March, moved to bed. Referred to Oncology. Seen in Clinic. Returned to Baseline.",
    ],
)
def test_what_only_looks_like_it_stays(text):
    _, counts = deidentify([text])
    assert not {"name", "address"} & counts.keys()


@pytest.mark.parametrize(
    ("text", "town"),
    [
        ("He is a farmer from Springfield, Illinois.", "Springfield"),
        ("Outside films from Albany, NY were reviewed.", "Albany"),
        ("She was born in Ljubljana and has asthma.", "Ljubljana"),
        ("Transferred from Salem after a fall.", "Salem"),
        ("Recently moved to San Mateo.", "San Mateo"),
        ("Originally from Bratislava, she works as a nurse.", "Bratislava"),
    ],
)
def test_towns_that_stand_where_towns_do(text, town):
    (clean,), counts = deidentify([text])
    assert town not in clean
    assert counts["address"] == 1
