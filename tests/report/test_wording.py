import re
from pathlib import Path

from medvlp.report.wording import WORDS, in_words

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
