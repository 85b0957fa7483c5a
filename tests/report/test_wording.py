import re
from pathlib import Path

from rich.console import Console

from medvlp.data.audit.problems import ERRORS, WARNINGS, rank
from medvlp.report.findings import findings_table
from medvlp.report.wording import WORDS, in_words
from tests.data.audit.test_rules import Finding, Problem, Tally

ROOT = Path(__file__).parents[2]


def test_every_code_with_words_of_its_own_is_one_that_is_given():
    text = "".join(
        path.read_text("utf-8")
        for package in ("data_prep", "medvlp")
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "wording"
    )
    assert [code for code in WORDS if not re.search(rf"\b{code}\b", text) and not code.startswith("same_")] == []


def test_a_code_without_words_of_its_own_is_read_out():
    assert in_words("broken_image") == "the image cannot be decoded"
    assert in_words("bad_xml") == "bad xml"


def test_what_matters_most_comes_first_and_no_path_is_cut():
    tally = Tally(lambda row: None)
    path = "/".join(["a_folder_with_a_long_name"] * 9) + "/000000.tar"
    for name in ("missing_licence", "shared_image", "duplicate_id", "empty_answer", "some_drop"):
        tally.add(Finding(Problem(name, "", "why"), "made", path, "k0"))
    table = findings_table(tally)
    assert [str(cell) for cell in table.columns[1].cells] == [
        "empty_answer",
        "some_drop",
        "shared_image",
        "duplicate_id",
        "missing_licence",
    ]
    console = Console(width=100)
    with console.capture() as drawn:
        console.print(table)
    cells = [line.split("│") for line in drawn.get().splitlines() if "│" in line]
    joined = "".join(cell[4].strip() for cell in cells)
    assert joined.count(path) == 5
    assert {rank(name) for name in ERRORS} == {0}
    assert sorted(rank(name) for name in WARNINGS) == list(range(1, len(WARNINGS) + 1))
