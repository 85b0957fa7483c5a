"""Card, Croissant description and attribution of a small data set of articles, and laws that hold for any."""

import csv
import json
import shutil

import pytest
import yaml

from data_prep.source import facts_of
from data_prep.sources.figures.pmc import Pmc
from data_prep.sources.figures.rocov2 import Rocov2
from data_prep.stages import STAGES
from medvlp.report import NotARun, write_prep_report, write_provenance
from medvlp.report.dataset.citations import collected_citations
from medvlp.report.dataset.croissant import COLUMNS
from medvlp.report.dataset.stages import SENTENCES
from medvlp.shards import Sample, ShardDataset, ShardError
from medvlp.shards.writer import table_schema
from tests.report.dataset.small_folders import HOSTILE, jpeg, write_split
from tests.report.html_page import assert_safe

STAGE_LIST = [
    {"stage": "read", "source": "pmc", "input": {"list.csv": "ab"}},
    {"stage": "clean_text"},
    {"stage": "licence_gate", "allow": ["CC-BY"]},
    {"stage": "deidentify_text"},
    {"stage": "split", "by": "grouped"},
    {"stage": "duplicates", "action": "drop", "radius": 10},
    {"stage": "decontaminate", "action": "drop", "against": {"vqa_rad/test": "f" * 64}, "radius": 10},
]

ARTICLES = {
    "PMC7": {
        "article_title": "A case of <b>x</b> | y", "authors": ["Ada Muster", "B. Beispiel"], "journal": "J Case",
        "year": 2021, "article_doi": "10.1000/x", "licence": "CC-BY-4.0", "article_version": 2,
    },
    "PMC8": {"article_title": "=HYPERLINK(1)", "authors": ["C. D."], "licence": "CC-BY", "article_doi": "10.1000/y",
             "licence_url": "https://creativecommons.org/licenses/by/2.0/"},
    "PMC9": {"article_title": "[click](javascript:alert(1))\n# no\u202eheading", "licence": "NO-CC"},
}  # fmt: skip


def figure(article, number, **more):
    about = {"source": "pmc", "article": article, "group": article, "group_kind": "article", "modality": "CT"}
    metadata = {**about, "language": "en", **ARTICLES[article], **more}
    return Sample(f"pmc__{article}__{number}__0", {"jpg": jpeg(9 * number)}, {"caption": "a scan"}, metadata=metadata)


def copy_row(kind, distance=None, **more):
    return {"key": "pmc__PMC7__1__0", "split": "train", "other": "o", "kind": kind, "distance": distance, **more}


@pytest.fixture
def articles(tmp_path):
    """Six figures of three articles; those of PMC7 stand apart, one is a panel and one was a GIF."""
    folder = tmp_path / "my name for it"
    train = [
        figure("PMC7", 1, panel_box=[0, 0, 9, 9]),
        figure("PMC8", 1),
        figure("PMC7", 2, reencoded_from="gif", rendered={"png": {"ground": "white"}}),
    ]
    write_split(folder, "train", train, STAGE_LIST)
    write_split(folder, "test", [figure("PMC9", 1), figure("PMC9", 2), figure("PMC7", 3)], STAGE_LIST)
    drops = {"licence_gate": {"licence_not_allowed": 2}, "duplicates": {"near_duplicate": 1}}
    ledger = {
        "in": 9, "out": 6, "rows": 7, "panels": 2, "drops": drops,
        "counts": {"deidentify_text": {"date": 12, "name": 3}, "split_panels": {"panels": 2}},
        "moved": {"train→test": 2}, "source": facts_of(Pmc),
        "splits": {"train": {"in": 6, "out": 3, "drops": drops}, "test": {"in": 3, "out": 3, "drops": {}}},
    }  # fmt: skip
    (folder / "ledger.json").write_text(json.dumps(ledger))
    rows = [
        copy_row("near", 4, other_split="train", action="dropped"),
        copy_row("near", 6, other_split="train", action="dropped"),
        copy_row("sha256", folder="vqa_rad/test", action="kept"),
    ]
    (folder / "copies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"engine": "engine of mine", "workers": 987654321}))
    return folder


def read_table(folder):
    with open(folder / "attribution.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_work_has_a_row_with_what_cc_by_asks_for(articles):
    write_provenance(articles)
    rows = read_table(articles)
    assert [(row["article"], row["licence"], row["samples"]) for row in rows] == [
        ("PMC7", "CC-BY-4.0", "3"),
        ("PMC8", "CC-BY", "1"),
        ("PMC9", "NO-CC", "2"),
    ]
    general = "text normalised; identifiers of persons replaced in text"
    assert rows[0] == {
        "source": "pmc", "article": "PMC7", "version": "2", "title": "A case of <b>x</b> | y",
        "authors": "Ada Muster; B. Beispiel", "journal": "J Case", "year": "2021", "doi": "10.1000/x",
        "url": "https://pmc.ncbi.nlm.nih.gov/articles/PMC7/", "citation": "", "licence": "CC-BY-4.0",
        "licence_url": "https://creativecommons.org/licenses/by/4.0/", "samples": "3",
        "changes": "figure cut into panels; image re-encoded as PNG without loss; "
        f"image turned upright, laid on white or scaled to 8 bits; {general}",
    }  # fmt: skip
    assert rows[1]["licence_url"] == "https://creativecommons.org/licenses/by/2.0/"
    assert rows[1]["title"] == "'=HYPERLINK(1)"
    assert (rows[2]["licence_url"], rows[2]["changes"]) == ("", general)


def test_a_licence_apart_makes_a_row_apart(articles):
    shutil.rmtree(articles / "test")
    lent = figure("PMC7", 4, licence="NO-CC")
    write_split(articles, "test", [figure("PMC7", 3), lent, figure("PMC7", 5)], STAGE_LIST)
    write_provenance(articles)
    assert [(row["article"], row["licence"], row["samples"]) for row in read_table(articles)] == [
        ("PMC7", "CC-BY-4.0", "4"),
        ("PMC7", "NO-CC", "1"),
        ("PMC8", "CC-BY", "1"),
    ]


@pytest.mark.parametrize(
    ("metadata", "title", "url"),
    [
        ({"source": "quilt", "url": "https://www.youtube.com/watch?v=a"}, "", "https://www.youtube.com/watch?v=a"),
        ({"source": "csv"}, "", ""),
        ({"source": "rocov2"}, Rocov2.publication.title, "https://doi.org/10.1038/s41597-024-03496-6"),
        ({"source": "biomedica", "article": "x", "article_doi": "10.1/z"}, "", "https://doi.org/10.1/z"),
    ],
)
def test_works_without_articles(tmp_path, metadata, title, url):
    """A video is a work of its own; what has no address is credited to the data set that it was published in."""
    write_split(tmp_path, "train", [Sample(f"s__{i}", texts={"caption": "c"}, metadata=metadata) for i in range(3)])
    with collected_citations([ShardDataset(tmp_path / "train")], {"rocov2": Rocov2.publication}) as works:
        [(work, samples, changes)] = works
        assert (work.title, work.url, work.licence, samples, changes) == (title, url, "unknown", 3, 0)


def test_gathering_in_small_pieces_changes_nothing(articles, monkeypatch):
    write_provenance(articles)
    whole = (articles / "attribution.csv").read_bytes()
    monkeypatch.setattr("medvlp.report.dataset.citations.MAX_IN_MEMORY", 1)
    write_provenance(articles)
    assert (articles / "attribution.csv").read_bytes() == whole


def test_what_is_written_depends_on_the_data_alone(articles, tmp_path):
    written = {path.name: path.read_bytes() for path in write_provenance(articles)}
    assert sorted(written) == ["ATTRIBUTION.md", "README.md", "attribution.csv", "croissant.json"]
    other = tmp_path / "elsewhere"
    shutil.copytree(articles, other)
    (other / "run.json").write_text(json.dumps({"engine": "slurm", "workers": 1}))
    assert {path.name: path.read_bytes() for path in write_provenance(other)} == written
    assert not any(b"my name" in data or b"of mine" in data or b"987654321" in data for data in written.values())


def test_the_page_names_works_and_lets_no_text_become_markup(articles):
    write_provenance(articles)
    text = (articles / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert (
        "- Ada Muster; B. Beispiel. [A case of &lt;b&gt;x&lt;/b&gt; \\| y]"
        "(<https://pmc.ncbi.nlm.nih.gov/articles/PMC7/>). J Case 2021. "
        "Licence: [CC-BY-4.0](<https://creativecommons.org/licenses/by/4.0/>). 3 samples; figure cut into panels; "
        "image re-encoded as PNG without loss; image turned upright, laid on white or scaled to 8 bits.\n"
    ) in text
    assert "[\\[click\\](javascript:alert(1)) \\# no heading](<https://pmc.ncbi.nlm.nih.gov/articles/PMC9/>)" in text
    assert "| pmc | NO-CC | 1 | 2 |" in text
    assert "\u202e" not in text


def test_a_long_list_of_works_is_left_to_the_table(articles, monkeypatch):
    monkeypatch.setattr("medvlp.report.dataset.attribution.MAX_LISTED", 2)
    write_provenance(articles)
    text = (articles / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert "The first 2 of 3:" in text
    assert text.count("\n- ") == 2


def test_the_card_says_what_the_ledger_says(articles):
    write_provenance(articles)
    _, front, body = (articles / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == ["cc-by-4.0", "other"]
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"][0]["data_files"] == [
        {"split": "test", "path": "test/*.tar"},
        {"split": "train", "path": "train/*.tar"},
    ]
    for expected in (
        "**Research use only. Not for clinical use.**",
        "Came in: 9; went out: 6; dropped: 3.", "7 are the source's, and 2 are panels",
        "except that every group is whole, in the most held-out of its splits. 1 group is in more than one split.",
        "| train | 6 | 3 | 2 |", "Moved to another split than the publisher's: train→test: 2.",
        "| [CC-BY-4.0](<https://creativecommons.org/licenses/by/4.0/>) | 3 |",
        "| `licence_gate` | a licence that \\`licences\\` does not name | 2 |", "| `deidentify_text` | date | 12 |",
        "| `split_panels` | panels | 2 |", "| vqa\\_rad/test | `ffffffffffffffff` |",
        "| near | train | train | dropped | 2 |", "| sha256 | train | vqa\\_rad/test | kept | 1 |",
        "Identifiers of persons in free text are replaced by their kind",
    ):  # fmt: skip
        assert expected in body, expected


def test_what_reading_removed_is_summed_up(articles):
    shutil.rmtree(articles / "test")
    removals = [{"private tags": 2, "overlay_planes": 1}, {"private tags": 3}, {"private tags": 0}]
    write_split(
        articles, "test", [figure("PMC9", i, deidentified=values) for i, values in enumerate(removals)], STAGE_LIST
    )
    write_provenance(articles)
    card = (articles / "README.md").read_text(encoding="utf-8")
    assert "| `read` | overlay planes | 1 |\n| `read` | private tags | 5 |\n" in card
    assert "read private tags 5" in assert_safe(write_prep_report(articles)).text


def test_croissant_is_valid_and_its_records_are_the_samples(articles):
    mlcroissant = pytest.importorskip("mlcroissant")
    write_provenance(articles)
    dataset = mlcroissant.Dataset(jsonld=str(articles / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    missing = [issue for issue in dataset.metadata.ctx.issues.warnings if "datePublished" not in issue]
    assert missing == []  # a date would differ from run to run
    assert [record["splits/name"] for record in dataset.records("splits")] == ["test", "train"]
    for split in ("train", "test"):
        table = ShardDataset(articles / split)
        records = list(dataset.records(f"{split}_samples"))
        for column in COLUMNS:
            values = [record[f"{split}_samples/{column}"] for record in records]
            texts = [value.decode() if isinstance(value, bytes) else value for value in values]
            assert [value or "" for value in texts] == [value or "" for value in table.column(column)], column
    content = json.loads((articles / "croissant.json").read_text(encoding="utf-8"))
    assert content["license"] == ["https://creativecommons.org/licenses/by/4.0/", "NO-CC", "CC-BY"]
    assert (
        "Removed: date: 12, name: 3. No automatic method finds everything."
        in (content["rai:personalSensitiveInformation"])
    )


def test_croissant_notices_a_changed_table(articles):
    mlcroissant = pytest.importorskip("mlcroissant")
    write_provenance(articles)
    with open(articles / "train" / "samples.parquet", "ab") as file:
        file.write(b"!")
    dataset = mlcroissant.Dataset(jsonld=str(articles / "croissant.json"))
    with pytest.raises(Exception, match="operation"):
        list(dataset.records("train_samples"))


def test_the_report_shows_flow_copies_and_credit(articles):
    write_provenance(articles)
    uri = "data:image/jpeg;base64,AAAA"
    pairs = [
        {"row": copy_row("near", 4, other_split="test", action="dropped"), "image": uri, "other_image": "http://x/y.jpg",
         "caption": HOSTILE, "other_caption": ""},
    ]  # fmt: skip
    (articles / "pairs.json").write_text(json.dumps(pairs))
    page = assert_safe(write_prep_report(articles))
    for expected in (
        "came in 9 licence_gate − 2 → 7 duplicates − 1 → 6 went out 6",
        "7 are the source's and 2 are panels", "train→test 2", "en 6 100.0 %", "deidentify_text date 12",
        "near train train dropped 2", "sha256 train vqa_rad/test (evaluation set) kept 1",
        "near · distance 4 · dropped", HOSTILE, "No picture. (no caption) test · o",
        "pmc CC-BY-4.0 1 3", "engine engine of mine",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert [value for _, name, value in page.attributes if name == "src" and value == uri] == [uri]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("copies.jsonl", '{"split": "train"}\n', r"copies\.jsonl, line 1: not a row of a copy \(it has no kind\)"),
        ("pairs.json", '[{"image": ""}]', r"pairs\.json is not as medvlp writes it \(KeyError: 'row'\)"),
        ("attribution.csv", "source,licence\na,b\n", r"attribution\.csv is not as medvlp writes it"),
    ],
)
def test_damaged_files_are_named(articles, name, content, message):
    (articles / name).write_text(content)
    with pytest.raises(NotARun, match=message):
        write_prep_report(articles)


def test_a_damaged_tar_is_named(articles):
    path = articles / "train" / "000000.tar"
    path.write_bytes(path.read_bytes().replace(b'"journal":"J Case"', b'"journal":"J Cast"'))
    with pytest.raises(ShardError, match=r"000000\.tar cannot be read: the bytes at \d+ are not what was written"):
        write_provenance(articles)


def test_descriptions_keep_up_with_what_there_is():
    assert set(STAGES) <= set(SENTENCES)
    assert list(COLUMNS) == table_schema().names


def test_the_publication_of_a_source_reaches_every_description_through_the_ledger(articles):
    """A ledger of before says nothing of the source: whoever prepares gives its facts, and without them only its name is
    said."""
    address = Pmc.publication.url
    pages = {path.name: path.read_bytes() for path in write_provenance(articles)}
    assert all(address in pages[name].decode() for name in ("README.md", "ATTRIBUTION.md", "croissant.json"))
    assert address in write_prep_report(articles).read_text()
    ledger = json.loads((articles / "ledger.json").read_text())
    del ledger["source"]
    (articles / "ledger.json").write_text(json.dumps(ledger))
    assert address not in write_prep_report(articles).read_text()
    assert {path.name: path.read_bytes() for path in write_provenance(articles, facts_of(Pmc))} == pages
    assert not any(address in path.read_text() for path in write_provenance(articles))
