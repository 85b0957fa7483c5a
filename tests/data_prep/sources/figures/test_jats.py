"""Reading JATS: the seven real articles against what a person read in them, markup as text, and hostile files."""

import html
import re
import time
import unicodedata

import pytest

from data_prep.captions.sentences import sentences
from data_prep.errors import BadRow
from data_prep.sources.figures.pmc_articles.article import parse_article
from data_prep.sources.figures.pmc_articles.text import plain_tex
from tests.data_prep.sources.figures.folders_pmc import article_xml, figure

# Written from the XML by eye: (label, graphic, first words, last words, first words of each sentence that refers to it).
ARTICLES = {
    "1471-2180-11-174.nxml": (
        (
            "PMC3166277",
            "21810267",
            "10.1186/1471-2180-11-174",
            "BMC Microbiology",
            2011,
            "CC-BY-2.0",
            "John J Dennehy",
            2,
        ),
        [
            (
                "Figure 1",
                "1471-2180-11-174-1",
                "Schematic presentation of two models of holin hole formation. Holin monomers",
                "Wang et al. [28] and White et al. [40].",
                [
                    "As the rafts grow and then exceed",
                    "Rather, it is proposed that the lysis time",
                    "The current model of holin hole formation",
                    "In general, it takes about a few seconds",
                ],
            ),
            (
                "Figure 2",
                "1471-2180-11-174-2",
                "Samples of a lysis recording and frequency distributions",
                "Additional data are shown in Tables 1 and 2.",
                ["Using a microscope-mounted, temperature-controlled", "These observations revealed a considerable"],
            ),
            (
                "Figure 3",
                "1471-2180-11-174-3",
                "Factors influencing λ lysis time stochasticity. (A) Effect of allelic",
                "open circles, MLT; close circles, SD; closed triangles, CV.",
                [
                    "Figure 3A revealed a significant positive",
                    "Figure 3A also reveals a relatively scattered",
                    "As shown in Figure 3B, our data",
                    "Interestingly, linear regressions (Figure 3C)",
                    "As shown in Figure 3D, lower growth",
                    "We observed that, in general, treatments",
                    "Furthermore, it was surprising that the combined",
                ],
            ),
            (
                "Figure 4",
                "1471-2180-11-174-4",
                "Effects of t_KCN (timing of KCN addition). (A) On time delay t_L - t_KCN.",
                "(y = 13.24 - 0.28x + 0.01(x - 36.57)²).",
                [
                    "Figure 4A shows a significant negative",
                    "The effects of t_KCN on lysis time SDs",
                    "Our study showed that the timing",
                    "The progressive decline in lysis time",
                ],
            ),
        ],
    ),
    "1472-6831-8-11.nxml": (
        (
            "PMC2329613",
            "18405359",
            "10.1186/1472-6831-8-11",
            "BMC Oral Health",
            2008,
            "CC-BY-2.0",
            "Marylee J van der Meulen",
            4,
        ),
        [],
    ),
    "ehp-116-1694.nxml": (
        (
            "PMC2599765",
            "19079722",
            "10.1289/ehp.11570",
            "Environmental Health Perspectives",
            2008,
            "PDM-1.0",
            "Sean C. Lema",
            4,
        ),
        [
            (
                "Figure 1",
                "ehp-116-1694f1",
                "Exposure to PBDE-47 depressed circulating concentrations of total T₄ in males",
                "T₃ in males (B). *p < 0.05 compared with control.",
                ["We observed decreased plasma T₄ levels", "Transcript levels for TRα and TRβ in the liver"],
            ),
            (
                "Figure 2",
                "ehp-116-1694f2",
                "Dietary exposure to PBDE-47 altered relative transcripts levels for TSHβ (A)",
                "*p < 0.05 compared with control.",
                ["At the lower exposure dose, PBDE-47"],
            ),
            (
                "Figure 3",
                "ehp-116-1694f3",
                "Dietary PBDE-47 exposure elevated mRNA levels for TRα in females (A)",
                "normalized to 18S. *p < 0.05 compared to control.",
                [
                    "Gene transcripts for TRα were elevated 37%",
                    "In both sexes, PBDE-47 exposure depressed",
                    "Dietary PBDE-47 exposure also altered mRNA",
                ],
            ),
        ],
    ),
    "mds526.nxml": (
        (
            "PMC3574550",
            "23149571",
            "10.1093/annonc/mds526",
            "Annals of Oncology",
            2013,
            "CC-BY-NC-3.0",
            "G. Lyratzopoulos",
            7,
        ),
        [
            (
                "Figure 1.",
                "mds52601",
                "Deprivation inequalities in advanced stage at diagnosis by cancer",
                "diagnosis in stage III/ IV versus I/II).",
                ["There was evidence (P ≤ 0.007 for all)"],
            ),
            (
                "Figure 2.",
                "mds52602",
                "Age inequalities in advanced stage diagnosis in patients ≥65 by cancer",
                "diagnosis in stage III/ IV versus I/II).",
                ["Among patients aged 65 or over"],
            ),
        ],
    ),
    "pntd.0002065.nxml": (
        (
            "PMC3585041",
            "23469300",
            "10.1371/journal.pntd.0002065",
            "PLoS Neglected Tropical Diseases",
            2013,
            "CC-BY",
            "José Fafetine",
            6,
        ),
        [
            (
                "Figure 1",
                "pntd.0002065.g001",
                "Location of the study areas. Figure 1 shows the map of the Zambézia Province",
                "namely Zambeze, Cuacua and Chire Rivers are highlighted in blue.",
                ["In September 2010 samples were collected only"],
            )
        ],
    ),
    "pone.0000217.nxml": (
        ("PMC1790863", "17299597", "10.1371/journal.pone.0000217", "PLoS ONE", 2007, "CC-BY", "Olivier Tenaillon", 4),
        [
            (
                "Figure 1",
                "pone.0000217.g001",
                "Fisher's geometric model in two-dimensional phenotypic space. Fitness varies",
                "new phenotypic combinations and fitness values (white point).",
                ["If an organism has only two phenotypes", "To generate novel genetic variation, mutations"],
            ),
            (
                "Figure 2",
                "pone.0000217.g002",
                "Predicted equilibrium fitness as a function of phenotypic complexity (n_e). Results",
                "in the simulation model; curves indicate the analytical results.",
                ["The validity of these results was confirmed"],
            ),
            (
                "Figure 3",
                "pone.0000217.g003",
                "Equilibrium drift load as a function of population size for vesicular",
                "the lighter dashed line indicates the value for ΦX174.",
                ["We used two sets of evolution experiments", "For ΦX174 we found n_e/Q = 45"],
            ),
        ],
    ),
    "pone.0046493.nxml": (
        ("PMC3460867", "23029536", "10.1371/journal.pone.0046493", "PLoS ONE", 2012, "CC-BY", "Vincent Delorme", 9),
        [
            (
                "Figure 1",
                "pone.0046493.g001",
                "Chemical structure of inhibitors. Chemical structures of A, THL and B, MmPPOX.",
                "(http://www.sisweb.com/referenc/tools/exactmass.htm).",
                ["Tetrahydrolipstatin (THL, Figure 1A), a versatile"],
            ),
            (
                "Figure 2",
                "pone.0046493.g002",
                "Inhibition of Lip-HSL proteins by MmPPOX. A, SDS-PAGE profile of the 9",
                "x_I50 values were defined as the inhibitor molar excess leading to 50% enzymes residual activities.",
                [
                    "Purification procedures using Ni²⁺-NTA resin",
                    "x_I50 and apparent K_i were also determined",
                    "Data, summarized in Table 3 and Figure 2B",
                ],
            ),
            (
                "Figure 3",
                "pone.0046493.g003",
                "Protein-inhibitor adducts studies using mass spectrometry. Global mass",
                "identical vertical scales were chosen for the right parts.",
                [
                    "At x_I = 20, mass increments of +286",
                    "LipN exhibited a modification of +284.0 Da",
                    "It is noteworthy that, in each case",
                    "Regarding LipY, mass measurements revealed",
                ],
            ),
            (
                "Figure 4",
                "pone.0046493.g004",
                "Antimycobacterial activity of MmPPOX and THL. Susceptibilities of M. tuberculosis were",
                "between 10–20 µg/mL for MmPPOX, respectively.",
                ["As shown in Figure 4, MmPPOX was also found"],
            ),
        ],
    ),
}


@pytest.mark.parametrize("name", ARTICLES)
def test_the_real_articles(test_data, name):
    data = (test_data / "pmc_nxml" / name).read_bytes()
    article = parse_article(data)
    (pmc, pmid, doi, journal, year, licence, author, authors), figures = ARTICLES[name]
    assert article.ids == {"pmc": pmc, "pmid": pmid, "doi": doi}
    assert (article.journal, article.year, article.licence) == (journal, year, licence)
    assert (article.authors[0], len(article.authors)) == (author, authors)
    assert (article.kind, article.retracted) == ("research-article", [])
    assert [(each.label, each.graphics) for each in article.figures] == [(each[0], [[each[1]]]) for each in figures]
    for article_figure, (_, graphic, first, last, references) in zip(article.figures, figures, strict=True):
        assert (article_figure.caption[: len(first)], article_figure.caption[-len(last) :]) == (first, last)
        assert [
            sentence[: len(begin)] for sentence, begin in zip(article_figure.references, references, strict=True)
        ] == references
        assert all(sentence.endswith((".", ")")) for sentence in article_figure.references)
        assert letters(article_figure.caption) == letters(plain(data.decode(), graphic))


def plain(xml: str, graphic: str) -> str:
    """The caption before a graphic, its tags cut out: a reference that knows nothing of JATS."""
    before = xml[: xml.index(f'<graphic xlink:href="{graphic}"')]
    return html.unescape(re.sub("<[^>]*>", "", before[before.rindex("<caption>") :]))


def letters(text: str) -> str:
    """Letters, digits and signs of a text, without what marks super- and subscripts."""
    return re.sub(r"[\s^_]", "", unicodedata.normalize("NFKC", text))


def test_section_titles_and_addresses_of_the_real_articles(test_data):
    first = parse_article((test_data / "pmc_nxml" / "1471-2180-11-174.nxml").read_bytes())
    assert first.licence_url == "http://creativecommons.org/licenses/by/2.0"
    assert first.figures[1].sections == ["Results", "Results"]
    fish = parse_article((test_data / "pmc_nxml" / "ehp-116-1694.nxml").read_bytes())
    assert fish.figures[1].sections == ["Pituitary gene transcripts"]
    organisms = parse_article((test_data / "pmc_nxml" / "pone.0000217.nxml").read_bytes())
    assert organisms.other_graphics == {"formula": 24}
    assert organisms.figures[2].sections[0] == "Viral Evolution"


def parsed(body: str, **parts: str):
    return parse_article(article_xml(body=body, **parts))


def caption_of(markup: str) -> str:
    return parsed(figure(caption=markup)).figures[0].caption


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>x<sup>2</sup> and H<sub>2</sub>O</p>", "x² and H₂O"),
        ("<p>10<sup>−3</sup> s<sup>-1</sup>, 10<sup>–6</sup></p>", "10⁻³ s⁻¹, 10⁻⁶"),
        ("<p>Ca<sup>2+</sup>, Na<sup>+</sup>, Cl<sup>−</sup></p>", "Ca²⁺, Na⁺, Cl⁻"),
        ("<p>n<sub>e</sub>, t<sub>KCN </sub>= 5, x<sup>a+b</sup></p>", "n_e, t_KCN = 5, x^(a+b)"),
        (
            "<p>the 5<sup>th</sup> at 37<sup>o</sup>C, Triton<sup>TM</sup>, A<sup>®</sup></p>",
            "the 5th at 37°C, Triton™, A®",
        ),
        ("<p><sup>*</sup>p &lt; 0.05, <sup>a</sup>mean, <sup>18</sup>F</p>", "*p < 0.05, ^amean, ¹⁸F"),
        (
            '<p>shown.<sup><xref ref-type="bibr" rid="b1">1</xref>,<xref ref-type="bibr" rid="b2">2</xref></sup></p>',
            "shown.[1,2]",
        ),
        ('<p>as in <xref ref-type="bibr" rid="b1"><sup>7</sup></xref>.</p>', "as in [7]."),
        ("<title>Chest CT</title><p>Axial.</p>", "Chest CT. Axial."),
        ("<title>Chest CT.</title><p>Axial.</p><p>Coronal.</p>", "Chest CT. Axial. Coronal."),
        ("<title>Chest CT</title>", "Chest CT"),
        ("<p>a<!-- not this -->b<?pi nor this?>c &amp; d &#x003b2; &#8805;</p>", "abc & d β ≥"),
        ("<p>one<break/>two <italic>three</italic><bold>four</bold></p>", "one two threefour"),
        ("<p>x <inline-formula><inline-graphic xlink:href='e1'/></inline-formula>y</p>", "x y"),
        (
            "<p>a <inline-formula><alternatives><tex-math>\\documentclass{minimal}\\begin{document}$$\\alpha ^{2} \\le "
            "\\mathrm {d}$$\\end{document}</tex-math><inline-graphic xlink:href='e'/></alternatives></inline-formula>.</p>",
            "a α² ≤ d.",
        ),
        (
            "<p><inline-formula><mml:math><mml:mrow><mml:msup><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msup><mml:mo>=</mml:mo>"
            "<mml:mfrac><mml:mrow><mml:mi>a</mml:mi><mml:mo>+</mml:mo><mml:msub><mml:mi>b</mml:mi><mml:mi>i</mml:mi></mml:msub>"
            "</mml:mrow><mml:mi>c</mml:mi></mml:mfrac></mml:mrow></mml:math></inline-formula></p>",
            "x² = (a+b_i)/c",
        ),
        (
            "<p>see<fn><p>a footnote</p></fn> here<table-wrap><table><tr><td>1</td></tr></table></table-wrap></p>",
            "see here",
        ),
        ("<p>\u202eright to left\u202c\u0085 stays</p>", "\u202eright to left\u202c stays"),
    ],
)
def test_markup_as_text(markup, text):
    assert caption_of(markup) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\frac{x}{y} \times \beta_{10}", "x/y × β₁₀"),
        (r"$x^2 + \frac{a + b}{c}$", "x² + (a + b)/c"),
        (r"\mathrm{ROI}_i \unknown{z}", r"ROI_i \unknownz"),
        (r"\left( p \le 0.05 \right)", "( p ≤ 0.05 )"),
        ("", ""),
    ],
)
def test_tex(source, text):
    assert plain_tex(source) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See Fig. 1 for this. It works.", ["See Fig. 1 for this.", "It works."]),
        ("Cells (e.g. E. coli) grew. We saw it.", ["Cells (e.g. E. coli) grew.", "We saw it."]),
        (
            "Smith et al. (2005) said so. Jones et al. The end.",
            ["Smith et al. (2005) said so.", "Jones et al.", "The end."],
        ),
        ("Shown.[12,13] Next one.¹² And p = 0.05 too.", ["Shown.[12,13]", "Next one.¹²", "And p = 0.05 too."]),
        ("In hepatitis C. The virus. C. elegans is small.", ["In hepatitis C.", "The virus.", "C. elegans is small."]),
        ("It rose (see Fig. 2; data. Not shown.) Then fell.", ["It rose (see Fig. 2; data. Not shown.) Then fell."]),
        ("It rose. p53 fell. mRNA too. then small", ["It rose.", "p53 fell.", "mRNA too. then small"]),
        (
            "Is it? Yes! Of No. 5 vs. 6 in vivo. 20 mice died.",
            ["Is it?", "Yes!", "Of No. 5 vs. 6 in vivo.", "20 mice died."],
        ),
        ("1. First item. 2.5 mm long", ["1. First item.", "2.5 mm long"]),
        ("no full stop", ["no full stop"]),
        ("", []),
    ],
)
def test_sentences(text, expected):
    assert [text[start:stop] for start, stop in sentences(text)] == expected


def figures_and(text: str, count: int = 5, before: str = "") -> list[list[str]]:
    """References of Figures 1 to `count` in an article with one paragraph."""
    plates = "".join(figure(f"F{n}", f"f{n}") for n in range(1, count + 1))
    return [each.references for each in parsed(f"{before}<sec><title>S</title><p>{text}</p></sec>{plates}").figures]


def link(rid: str, text: str) -> str:
    return f'<xref ref-type="fig" rid="{rid}">{text}</xref>'


def test_references_to_several_figures():
    whole = "All in Figures 2–4 here."
    assert figures_and(f"First. All in Figures {link('F2', '2')}–{link('F4', '4')} here. Last.") == [
        [],
        [whole],
        [whole],
        [whole],
        [],
    ]
    assert figures_and(f"All in Figures {link('F2 F3 F4', '2–4')} here.") == [[], [whole], [whole], [whole], []]
    assert figures_and(f"All in Figures {link('F2', '2–4')} here.") == [[], [whole], [whole], [whole], []]
    assert figures_and(f"See {link('F1', '1')} and {link('F3', '3')}.") == [
        ["See 1 and 3."],
        [],
        ["See 1 and 3."],
        [],
        [],
    ]
    assert figures_and(f"Of {link('F1', 'Fig. 1A–C')} alone.")[1:] == [[], [], [], []]
    assert figures_and(f"Both {link('F1', '1A')} and {link('F1', '1B')}.")[0] == ["Both 1A and 1B."]
    assert figures_and(f"Lost {link('F9', '9')}.") == [[], [], [], [], []]


def test_ranges_leave_out_figures_of_another_kind():
    scheme = '<fig id="S1"><label>Scheme 1</label><graphic xlink:href="s1"/></fig>'
    body = f"<p>Figs {link('F1', '1')} to {link('F2', '2')}.</p>{figure('F1')}{scheme}{figure('F2')}"
    assert [len(each.references) for each in parsed(body).figures] == [1, 0, 1]


def test_references_stand_in_running_text_alone():
    body = (
        f"<p>Outer {link('F1', '1')}.<list><list-item><p>Inner {link('F1', '1')}.</p></list-item></list></p>"
        f"<table-wrap><caption><p>Table of {link('F1', '1')}.</p></caption></table-wrap>"
        + figure("F1", caption=f"<p>Own {link('F1', '1')}.</p>")
    )
    references = parsed(body).figures[0].references
    assert "Inner 1." in references
    assert not any(word in sentence for sentence in references for word in ("Own", "Table"))


def test_groups_alternatives_and_several_graphics():
    body = """<fig-group id="G"><label>Figure 1</label><caption><title>Scans</title></caption>
      <fig id="Ga"><caption><p>Before.</p></caption><graphic xlink:href="a"/></fig>
      <fig id="Gb"><label>B</label><caption><p>After.</p></caption>
        <alternatives><graphic xlink:href="b.tif"/><graphic xlink:href="b.jpg"/></alternatives>
        <graphic xlink:href="c"/></fig></fig-group>
      <p>Both (<xref ref-type="fig" rid="G">Fig. 1</xref>).</p>
      <fig id="bare"><graphic xlink:href="d"/></fig><fig id="film"><media xlink:href="v.mp4"/></fig>"""
    figures = parsed(body).figures
    assert [(each.id, each.label, each.caption, each.graphics) for each in figures] == [
        ("Ga", "Figure 1", "Scans Before.", [["a"]]),
        ("Gb", "B", "Scans After.", [["b.tif", "b.jpg"], ["c"]]),
        ("bare", "", "", [["d"]]),
        ("film", "", "", []),
    ]
    assert [each.references for each in figures[:2]] == [["Both (Fig. 1)."], ["Both (Fig. 1)."]]
    assert figures[3].has_media


def test_figures_at_the_end_and_graphics_of_others():
    body = (
        '<table-wrap><graphic xlink:href="t1"/></table-wrap><disp-formula><graphic xlink:href="e1"/></disp-formula>'
        '<p><inline-graphic xlink:href="i1"/></p><boxed-text><graphic xlink:href="x"/></boxed-text></body>'
        f"<floats-group>{figure()}</floats-group>"
        f"<sub-article><body>{figure('R1')}</body></sub-article><body>"
    )
    article = parsed(body)
    assert [each.id for each in article.figures] == ["F1"]
    assert article.other_graphics == {"table": 1, "formula": 1, "inline": 1, "text": 1, "other article": 1}


@pytest.mark.parametrize(
    ("permissions", "licence"),
    [
        ("", "unknown"),
        ("<attrib>Photo: J. Smith</attrib>", "unknown"),
        ("<attrib>Reproduced with permission from Elsevier</attrib>", "NO-CC"),
        ("<permissions><copyright-statement>© 2003 Elsevier</copyright-statement></permissions>", "NO-CC"),
        ("<permissions><copyright-statement>© The Author(s) 2020</copyright-statement></permissions>", "unknown"),
        (
            '<permissions><license xlink:href="https://creativecommons.org/licenses/by-sa/3.0/"/></permissions>',
            "CC-BY-SA-3.0",
        ),
    ],
)
def test_rights_of_a_figure_alone(permissions, licence):
    assert parsed(figure(extra=permissions)).figures[0].licence == licence


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, []),
        ({"kind": "retraction"}, ["article-type retraction"]),
        ({"kind": "correction"}, []),
        (
            {"meta": '<related-article related-article-type="retracted-article"/>'},
            ["related-article retracted-article"],
        ),
        (
            {"meta": '<related-article related-article-type="retraction-forward"/>'},
            ["related-article retraction-forward"],
        ),
        ({"meta": '<related-article related-article-type="corrected-article"/>'}, []),
        ({"title": "RETRACTED: Something"}, ["title"]),
        ({"title": "Retracted articles in surgery"}, []),
    ],
)
def test_retractions(parts, said):
    assert parsed("", **parts).retracted == said


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("<copyright-statement>© X. Creative Commons Attribution License.</copyright-statement>", "CC-BY"),
        ("<license><p>x<!-- http://creativecommons.org/licenses/by-nc/2.0 --></p></license>", "unknown"),
        ('<license license-type="CC-BY-NC"><license-p>Open.</license-p></license>', "CC-BY-NC"),
        (
            '<license><ali:license_ref xmlns:ali="http://www.niso.org/schemas/ali/1.0/">'
            "https://creativecommons.org/licenses/by/4.0/</ali:license_ref></license>",
            "CC-BY-4.0",
        ),
        ("", "unknown"),
    ],
)
def test_licences(licence, expected):
    assert parsed("", licence=licence).licence == expected


BOMB = "<!DOCTYPE article [<!ENTITY a 'lol'>" + "".join(
    f"<!ENTITY {after} '{f'&{before};' * 10}'>" for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (article_xml(body="<p>&i;</p>", prolog=BOMB + "]>"), "entities_refused"),
        (article_xml(body='<p id="&i;"/>', prolog=BOMB + "]>"), "entities_refused"),
        (
            article_xml(body="<p>&x;</p>", prolog='<!DOCTYPE article [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
            "entities_refused",
        ),
        (
            article_xml(prolog='<!DOCTYPE article [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p;]>'),
            "entities_refused",
        ),
        (article_xml(body="<p>" * 5000 + "</p>" * 5000), "bad_xml"),
        (article_xml(body=f"<p>{'x' * 11_000_000}</p>"), "bad_xml"),
        (article_xml(body="<p>\x07</p>"), "bad_xml"),
        (article_xml(body="<p>"), "bad_xml"),
        (article_xml(body="&nosuch;"), "bad_xml"),
        (b"", "bad_xml"),
        (b"\x00\xff garbage", "bad_xml"),
        (b"<html/>", "not_an_article"),
        (b"<article/>", "not_an_article"),
    ],
)
def test_hostile_files(data, reason):
    with pytest.raises(BadRow) as caught:
        parse_article(data)
    assert caught.value.reason == reason
    assert len(caught.value.detail) < 400


def test_deep_nesting_below_the_parsers_limit():
    """libxml2 allows 256 levels; the reader has to come through them or refuse, not crash."""
    for tag in ("sup", "italic"):
        caption = f"<p>{f'<{tag}>' * 235}x{f'</{tag}>' * 235}</p>"
        assert caption_of(caption).strip("^_()") == "x"


def test_named_characters_of_a_dtd_that_is_not_read():
    article = article_xml(
        body=figure(caption="<p>&alpha;-actin &nosuch;</p>"), prolog='<!DOCTYPE article SYSTEM "j.dtd">'
    )
    assert parse_article(article).figures[0].caption == "α-actin &nosuch;"


def test_an_article_inside_a_wrapping_with_a_namespace():
    inner = article_xml(body=figure()).decode().partition("?>")[2]
    wrapped = f'<r xmlns="urn:x">{inner}</r>'.encode()
    assert [each.label for each in parse_article(wrapped).figures] == ["Figure 1"]


@pytest.mark.parametrize(
    "text",
    [
        "." * 90_000,
        "⁰" * 90_000 + ".",
        "." + "⁰" * 90_000,
        "(" * 90_000,
        "Fig. " * 18_000,
        "a. B " * 18_000,
        ".[1" * 30_000,
    ],
)
def test_sentences_take_time_in_proportion(text):
    started = time.process_time()
    sentences(text)
    assert time.process_time() - started < 2  # a second for the slowest here; quadratic ones would take minutes


def test_an_article_made_to_be_slow():
    links = link("F1", "1–9") * 20_000
    started = time.process_time()
    article = parsed(f"<p>{links}</p>" + "".join(figure(f"F{n}", f"f{n}") for n in range(1, 1500)))
    assert time.process_time() - started < 20
    assert len(article.figures) == 1499
    with pytest.raises(BadRow) as caught:
        parsed("".join(figure(f"F{n}", f"f{n}") for n in range(2001)))
    assert caught.value.reason == "too_many_figures"


def test_marks_of_direction_do_not_reach_what_is_printed():
    article = parsed(figure(), title="A \u202etitle\u2066")
    assert article.title == "A title"
