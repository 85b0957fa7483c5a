"""docs/tasks.md: every mapping and every task is in its tables, and what has no task says why."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from data_prep.sources import SOURCES
from medvlp.config import list_options, load_task, value_of

NAMED = [
    "MedQA",
    "MedMCQA",
    "PubMedQA",
    "MMLU",
    "MedXpertQA",
    "WorldMedQA-V",
    "EXAMS-V",
    "MMMU",
    "CMExam",
    "CMB-Exam",
    "KorMedMCQA",
    "IgakuQA",
    "AfriMed-QA",
    "EMPEC",
    "MedExQA",
    "JAMA",
    "Medbullets",
    "Glianorex",
    "COGNET-MD",
    "Med-HALT",
    "BiasMedQA",
    "RABBITS",
    "MedCalc-Bench",
    "MEDEC",
    "ProbMed",
    "MediConfusion",
    "MIMIC-CXR-VQA",
    "ImageCLEF",
    "ROCOv2",
    "R-RAD",
    "R-SLAKE",
    "MedThink",
    "IU",
    "MIMIC-CXR",
    "CheXpert",
    "PadChest",
    "ChestX-ray14",
    "ChestMNIST",
    "HAM10000",
    "ISIC",
    "PatchCamelyon",
    "NCT-CRC-HE",
    "LC25000",
    "RSNA",
    "SCIN",
]
"""Benchmarks that the page has to speak of."""


class Row(NamedTuple):
    data_set: str
    origins: list[str]
    """Mappings, or sources."""
    tasks: list[str]
    note: str


def rows() -> list[Row]:
    text = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    cells = [row for row in cells if row[0] != "data set" and not set(row[0]) <= set("-")]
    return [
        Row(name, re.findall(r"`(\w+)`", origins), re.findall(r"`(\w+)`", tasks), note)
        for name, origins, tasks, note in cells
    ]


ROWS = rows()


def test_every_mapping_and_every_source_of_the_page_is_there():
    origins = {name for row in ROWS for name in row.origins}
    assert set(list_options("configs/mappings")) - origins == set()
    assert origins <= {*list_options("configs/mappings"), *SOURCES}


def test_every_task_stands_in_the_row_of_its_data():
    placed = {}
    for name in list_options("configs/task"):
        prep = load_task(name).prep
        source = value_of(prep, "source")
        origin = value_of(prep, "options.mapping") if source == "records" else source
        placed[name] = [row.data_set for row in ROWS if name in row.tasks and origin in row.origins]
    assert [name for name, data_sets in placed.items() if not data_sets] == []
    assert {name for row in ROWS for name in row.tasks} == placed.keys()


@pytest.mark.parametrize("name", NAMED)
def test_a_benchmark_has_a_task_or_a_reason(name):
    matching = [row for row in ROWS if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", row.data_set)]
    assert matching
    assert all(row.tasks or row.note.startswith("no task") for row in matching)
