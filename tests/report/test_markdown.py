import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.report.licences import hub_licence, licence_address
from medvlp.report.markdown import code, link, plain, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\n\tc", "a b c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[x](y) *z* `q` a|b", "\\[x\\](y) \\*z\\* \\`q\\` a\\|b"),
        ("# head", "\\# head"),
        ("see https://a.b and www.c.d, me@x.y", "see https&#58;//a.b and www&#46;c.d, me&#64;x.y"),
        ("left\u202eright\x00", "left right"),
        ("\ud800", "?"),
        (None, "None"),
    ],
)
def test_text_stays_text(text, expected):
    assert plain(text) == expected


@given(st.text())
def test_no_text_leaves_its_line_or_opens_a_tag(text):
    for line in (plain(text), code(text)):
        assert len(line.splitlines()) <= 1
    assert "<" not in plain(text)
    assert "`" not in code(text)[1:-1]


@pytest.mark.parametrize(
    "address", ["", "javascript:alert(1)", "https://a b", "https://a>b", "http://a\nb", "ftp://a", "data:x,y"]
)
def test_what_is_no_web_address_is_no_link(address):
    assert link("t", address) == "t"


def test_links_and_tables():
    assert link("a]b", "https://x.y/(z)") == "[a\\]b](<https://x.y/(z)>)"
    assert table(["A", "N"], [("x", 1)], numbers=(1,)) == ["| A | N |", "| --- | ---: |", "| x | 1 |"]


@pytest.mark.parametrize(
    ("licence", "address", "hub"),
    [
        ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/", "cc-by-4.0"),
        ("CC-BY-NC-SA-3.0", "https://creativecommons.org/licenses/by-nc-sa/3.0/", "cc-by-nc-sa-3.0"),
        ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("PDM-1.0", "https://creativecommons.org/publicdomain/mark/1.0/", "other"),
        ("MIT", "https://spdx.org/licenses/MIT.html", "mit"),
        ("CC-BY", "", "other"),
        ("NO-CC", "", "other"),
        ("unknown", "", "unknown"),
        ("CC-BY-4.0) [x](y", "", "other"),
    ],
)
def test_licences(licence, address, hub):
    assert (licence_address(licence), hub_licence(licence)) == (address, hub)
