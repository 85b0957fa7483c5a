"""The source pmc: layouts, versions, digests, lists, the policy, and archives that nobody should trust."""

import gc
import gzip
import io
import json
import os
import tarfile
import time
from collections import Counter

import pytest
from PIL import Image

from data_prep import sources
from data_prep.draft import Draft, Drop
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.readers import archives
from data_prep.source import Dropped
from data_prep.sources.figures.pmc import Pmc
from data_prep.sources.figures.pmc_articles.article import parse_article
from data_prep.stages.licence import licence_gate
from medvlp.shards import ShardDataset
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.figures.folders_pmc import (
    CC_BY,
    article_xml,
    figure,
    write_list,
    write_new,
    write_old,
    write_tar,
)


def items_of(folder, **parameters):
    """All that comes out: (samples, {name: reason} of the drops, the counts of all units)."""
    source = Pmc(str(folder), **parameters)
    samples, drops, counts = [], {}, Counter()
    for unit in source.units():
        assert unit.split == "train"
        assert json.loads(json.dumps(unit.selection)) == unit.selection
        for item in source.read(unit):
            if isinstance(item, Dropped):
                drops[item.name] = item.reason
            else:
                samples.append(item)
        counts.update(source.counts)
    return samples, drops, {counted_name: number for (_, counted_name), number in counts.items()}


REAL = {  # (PMCID, licence) → graphics of its figures; see test_jats for all that is said of them
    "1471-2180-11-174": ("PMC3166277", "CC-BY-2.0", [f"1471-2180-11-174-{n}" for n in (1, 2, 3, 4)]),
    "1472-6831-8-11": ("PMC2329613", "CC-BY-2.0", []),
    "ehp-116-1694": ("PMC2599765", "PDM-1.0", [f"ehp-116-1694f{n}" for n in (1, 2, 3)]),
    "mds526": ("PMC3574550", "CC-BY-NC-3.0", ["mds52601", "mds52602"]),
    "pntd.0002065": ("PMC3585041", "CC-BY", ["pntd.0002065.g001"]),
    "pone.0000217": ("PMC1790863", "CC-BY", [f"pone.0000217.g00{n}" for n in (1, 2, 3)]),
    "pone.0046493": ("PMC3460867", "CC-BY", [f"pone.0046493.g00{n}" for n in (1, 2, 3, 4)]),
}


def real(test_data):
    """(number, XML, files) of each of the seven, with pictures planted under their graphics' names."""
    for index, (name, (pmc, _, graphics)) in enumerate(REAL.items()):
        xml = (test_data / "pmc_nxml" / f"{name}.nxml").read_bytes()
        files = {f"{graphic}.jpg": jpeg(100 * index + n) for n, graphic in enumerate(graphics)}
        yield name, int(pmc[3:]), xml, files


@pytest.mark.parametrize("layout", ["old", "new", "flat"])
def test_the_real_articles_in_every_layout(test_data, tmp_path, layout):
    planted = {}
    for name, number, xml, files in real(test_data):
        planted |= {f"PMC{number}/{file}": data for file, data in files.items()}
        if layout == "old":
            thumbnails = {file.replace(".jpg", ".gif"): b"GIF89a" for file in files}
            write_old(tmp_path, number, xml, {**files, **thumbnails, "paper.pdf": b"%PDF"}, f"{name}.nxml")
        elif layout == "new":
            code = {"PMC2599765": None, "PMC3574550": "CC BY-NC"}.get(f"PMC{number}", "CC BY")
            write_new(tmp_path, number, 1, xml, files, license_code=code)
        else:
            (tmp_path / f"{name}.nxml").write_bytes(xml)
            for file, data in files.items():
                (tmp_path / file).write_bytes(data)
    samples, drops, counts = items_of(tmp_path)
    assert {s.metadata["original_name"]: s.images["jpg"] for s in samples} == planted
    assert list(drops.values()) == ["no_figures"]
    numbers = [int(s.metadata["article"][3:]) for s in samples]
    assert numbers == sorted(numbers)
    by_article = {s.metadata["article"]: s.metadata["licence"] for s in samples}
    assert by_article == {pmc: licence for pmc, licence, graphics in REAL.values() if graphics}
    first = samples[numbers.index(3166277) + 2]
    assert first.key == "pmc__PMC3166277__F3__0"
    assert first.texts["caption"].startswith("Factors influencing λ lysis time stochasticity. (A)")
    assert len(first.texts["references"].split("\n")) == len(first.metadata["reference_sections"]) == 7
    assert (
        first.metadata
        | {
            "group": "PMC3166277",
            "group_kind": "article",
            "figure_label": "Figure 3",
            "figure_id": "F3",
            "article_doi": "10.1186/1471-2180-11-174",
            "journal": "BMC Microbiology",
            "year": 2011,
            "authors": ["John J Dennehy", "Ing-Nang Wang"],
            "licence_url": "http://creativecommons.org/licenses/by/2.0",
            "retracted": False,
            "modality": "unknown",
            "url": "https://pmc.ncbi.nlm.nih.gov/articles/PMC3166277/",
        }
        == first.metadata
    )
    assert first.metadata.get("article_version") == (1 if layout == "new" else None)
    assert counts["graphics of no figure: formula"] == 24
    assert counts["graphics of no figure: table"] == 8
    if layout == "old":
        assert counts["files passed by: gif of no figure"] == 17
        assert counts["files passed by: pdf"] == 7


def through_the_gate(samples, allow):
    passed, dropped = [], Counter()
    for sample in samples:
        draft = Draft(sample)
        try:
            passed.append(licence_gate(draft, allow).sample)
        except Drop as drop:
            dropped[drop.reason, drop.detail.partition(";")[0]] += 1
    return passed, dropped


def test_the_policy_on_the_real_articles(test_data, tmp_path):
    for name, number, xml, files in real(test_data):
        write_old(tmp_path, number, xml, files, f"{name}.nxml")
    write_list(
        tmp_path,
        [
            (1790863, "CC BY", "yes"),
            (2599765, "CC0", "no"),
            (3166277, "CC BY", "no"),
            (3574550, "CC BY-NC", "no"),
            (999, "CC BY", "no"),
        ],
    )
    samples, drops, counts = items_of(tmp_path)
    assert drops["oa_file_list.csv"] == "not_there"
    passed, dropped = through_the_gate(samples, ["CC0", "PDM", "CC-BY"])
    assert dropped == {
        ("licence_not_allowed", "CC-BY-NC-3.0"): 2,
        ("retracted", "the article PMC1790863 is retracted"): 3,
    }
    assert Counter(s.metadata["article"] for s in passed) == {
        "PMC2599765": 3,
        "PMC3166277": 4,
        "PMC3460867": 4,
        "PMC3585041": 1,
    }
    assert counts["licences stated differently: articles"] == 1  # EHP: the public domain mark, CC0 by the list


def test_a_whole_preparation(tmp_path, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "pmc", "data_prep.sources.figures.pmc:Pmc")
    caption = "<p>Chest\u202e CT, 5<sup>th</sup> day.</p>"
    for number in range(1, 8):
        body = figure("F1", f"p{number}", caption) + '<p>See <xref rid="F1">it\u2066</xref>.</p>'
        write_old(tmp_path / "in", number, article_xml(number, body), {f"p{number}.jpg": jpeg(number)})
    result = prepare("pmc", str(tmp_path / "in"), tmp_path / "out", samples_per_shard=10)
    assert (result.ledger["in"], result.ledger["out"]) == (7, 7)
    data = ShardDataset(tmp_path / "out" / "train")
    sample = data.read(0)
    assert sample.texts == {"caption": "Chest CT, 5th day.", "references": "See it."}
    assert sample.metadata["citation"] == "Jo Doe et al. A title. J Test 2020 7:12. doi:10.1000/1"
    assert sample.metadata["authors"] == ["Jo Doe", "The Group"]


def test_units_are_marked_by_their_own_part_of_the_input(tmp_path):
    for number in (3, 1, 2):
        write_old(tmp_path, number, article_xml(number, figure()), {"f1.jpg": jpeg(number)})
    before = Pmc(str(tmp_path), samples_per_shard=5).units()
    assert [[article[1][-11:] for article in unit.selection["articles"]] for unit in before] == [
        ["PMC1.tar.gz"],
        ["PMC2.tar.gz"],
        ["PMC3.tar.gz"],
    ]
    write_old(tmp_path, 2, article_xml(2, figure() + "<p>longer</p>" * 100), {"f1.jpg": jpeg(7)})
    write_old(tmp_path, 4, article_xml(4, figure()), {"f1.jpg": jpeg(4)})
    after = Pmc(str(tmp_path), samples_per_shard=5).units()
    assert [a.fingerprint == b.fingerprint for a, b in zip(before, after, strict=False)] == [True, False, True]
    assert Pmc(str(tmp_path)).fingerprint() == Pmc(str(tmp_path)).fingerprint()


def test_the_newest_version_is_used(tmp_path):
    for version in (1, 2, 10):
        write_new(tmp_path, 5, version, article_xml(5, figure(caption=f"<p>v{version}</p>")), {"f1.jpg": jpeg(version)})
    write_old(tmp_path, 5, article_xml(5, figure()), {"f1.jpg": jpeg(0)})
    samples, drops, _ = items_of(tmp_path)
    assert [(s.texts["caption"], s.metadata["article_version"]) for s in samples] == [("v10", 10)]
    assert samples[0].images["jpg"] == jpeg(10)
    assert sorted(drops.values()) == ["older_version"] * 3
    assert {"PMC5.1", "PMC5.2"} < drops.keys()


def test_digests_of_the_publisher(tmp_path):
    body = figure("F1", "a") + figure("F2", "b")
    version_folder = write_new(tmp_path, 1, 1, article_xml(1, body), {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}, beside=True)
    (version_folder / "b.jpg").write_bytes(jpeg(3))
    version_folder = write_new(tmp_path, 2, 1, article_xml(2, body), {"a.jpg": jpeg(1), "b.jpg": jpeg(2)})
    (version_folder / "PMC2.1.xml").write_bytes(article_xml(2, figure("F1", "a")))
    samples, drops, _ = items_of(tmp_path)
    assert [s.metadata["original_name"] for s in samples] == ["PMC1/a.jpg"]
    assert drops == {"PMC1/F2/b": "md5_mismatch", "PMC2.1": "md5_mismatch"}


@pytest.mark.parametrize(
    ("article", "metadata", "listed", "licence", "url"),
    [
        (CC_BY, {}, [], "CC-BY-4.0", "http://creativecommons.org/licenses/by/4.0/"),
        (CC_BY, {"license_code": "CC BY-NC"}, [], "CC-BY-NC", ""),
        (CC_BY, {}, ["CC BY-ND"], "CC-BY-ND", ""),
        (CC_BY, {"license_code": None, "is_pmc_openaccess": False}, [], "NO-CC", ""),
        ("", {"license_code": "CC0"}, [], "CC0-1.0", ""),
        ("", {"license_code": None}, ["CC BY-SA", "CC BY"], "CC-BY-SA", ""),
        ("", {"license_code": None}, ["CC BY", "CC BY-NC"], "CC-BY-NC", ""),
        ("", {"license_code": 5}, [], "unknown", ""),
    ],
)
def test_the_strictest_statement_holds(tmp_path, article, metadata, listed, licence, url):
    write_new(tmp_path, 1, 1, article_xml(1, figure(), licence=article), {"f1.jpg": jpeg(1)}, **metadata)
    for number, code in enumerate(listed):
        write_list(tmp_path, [(1, code, "no")], f"oa_{number}_file_list.csv")
    (sample,), _, _ = items_of(tmp_path)
    assert (sample.metadata["licence"], sample.metadata["licence_url"]) == (licence, url)


def test_disagreements_are_on_record(tmp_path):
    write_new(tmp_path, 1, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)}, license_code="CC BY-NC-ND")
    (sample,), _, counts = items_of(tmp_path)
    assert sample.metadata["licence_statements"] == {"article": "CC-BY-4.0", "metadata": "CC-BY-NC-ND"}
    assert counts["licences stated differently: articles"] == 1


def test_a_lent_figure_is_not_under_the_articles_licence(tmp_path):
    lent = "<attrib>Reproduced with permission from Elsevier.</attrib>"
    write_old(
        tmp_path,
        1,
        article_xml(1, figure("F1", "a", extra=lent) + figure("F2", "b")),
        {"a.jpg": jpeg(1), "b.jpg": jpeg(2)},
    )
    samples, _, counts = items_of(tmp_path)
    assert [s.metadata["licence"] for s in samples] == ["NO-CC", "CC-BY-4.0"]
    assert samples[0].metadata["figure_rights"] == "Reproduced with permission from Elsevier."
    assert counts["licence of the figure's own"] == 1


@pytest.mark.parametrize(
    ("metadata", "listed", "kind", "said"),
    [
        ({}, "no", "research-article", None),
        ({"is_retracted": True}, "no", "research-article", ["metadata"]),
        ({"is_retracted": "yes"}, "no", "research-article", ["metadata"]),
        ({}, "yes", "research-article", ["file list"]),
        ({}, "no", "retraction", ["article-type retraction"]),
    ],
)
def test_retractions(tmp_path, metadata, listed, kind, said):
    write_new(tmp_path, 1, 1, article_xml(1, figure(), kind=kind), {"f1.jpg": jpeg(1)}, **metadata)
    write_list(tmp_path, [(1, "CC BY", "no")], "oa_comm_file_list.csv")
    write_list(tmp_path, [(1, "CC BY", listed)], "oa_file_list.csv")
    (sample,), _, _ = items_of(tmp_path)
    assert (sample.metadata["retracted"], sample.metadata.get("retracted_by")) == (said is not None, said)


def png(size=(32, 24)):
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(buffer, "PNG")
    return buffer.getvalue()


def tiff():
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((32, 24)).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("href", "files", "expected"),
    [
        ("f1", ["f1.gif", "f1.jpg", "f1.tif"], "f1.jpg"),
        ("f1", ["f1.png", "f1.jpeg"], "f1.jpeg"),
        ("f1.tif", ["f1.jpg", "f1.gif"], "f1.jpg"),
        ("f1.tif", ["f1.tif", "f1.jpg"], "f1.tif"),
        ("f1.eps", ["f1.jpg"], "f1.jpg"),
        ("F1", ["f1.JPG"], "f1.JPG"),
        ("a.b.c", ["a.b.c.jpg", "a.b.jpg"], "a.b.c.jpg"),
        ("f1", ["f10.jpg"], "missing_image"),
        ("", ["f1.jpg"], "bad_path"),
        ("../f1", ["f1.jpg"], "bad_path"),
        ("/etc/passwd", ["f1.jpg"], "bad_path"),
        ("a\\f1", ["f1.jpg"], "bad_path"),
        ("http://[bad/f1.jpg", ["f1.jpg"], "remote_image"),
        ("file:///etc/passwd", ["f1.jpg"], "missing_image"),
        ("f1", ["f1.txt", "f1.pdf"], "missing_image"),
    ],
)
def test_names_of_graphics(tmp_path, href, files, expected):
    contents = {".tif": tiff(), ".gif": b"GIF89a", ".png": png()}
    contents_by_file = {file: contents.get(os.path.splitext(file)[1], jpeg(1)) for file in files}
    write_old(tmp_path, 1, article_xml(1, figure("F1", href)), contents_by_file)
    samples, drops, _ = items_of(tmp_path)
    name = samples[0].metadata["original_name"].removeprefix("PMC1/") if samples else drops[f"PMC1/F1/{href}"]
    assert name == expected


def test_formats_and_alternatives(tmp_path):
    several = (
        '<fig id="F1"><caption><p>One.</p></caption><alternatives><graphic xlink:href="a.tif"/><graphic xlink:href="a.jpg"/>'
        '</alternatives><graphic xlink:href="b"/><graphic xlink:href="c"/><graphic xlink:href="d"/></fig>'
    )
    files = {"a.tif": tiff(), "a.jpg": jpeg(1), "b.tif": tiff(), "c.jpg": png(), "d.jpg": b"%PDF-1.4"}
    write_old(tmp_path, 1, article_xml(1, several), files)
    samples, drops, _ = items_of(tmp_path)
    assert [(s.key, s.metadata["original_name"], next(iter(s.images))) for s in samples] == [
        ("pmc__PMC1__F1__0", "PMC1/a.jpg", "jpg"),
        ("pmc__PMC1__F1__1", "PMC1/b.tif", "png"),
        ("pmc__PMC1__F1__2", "PMC1/c.jpg", "png"),
    ]
    assert [s.metadata.get("reencoded_from") for s in samples] == [None, "tif", None]
    again = Image.open(io.BytesIO(samples[1].images["png"]))
    assert again.tobytes() == Image.open(io.BytesIO(tiff())).tobytes()
    assert drops == {"PMC1/F1/d": "image_format"}


def test_figures_without_graphics_ids_or_captions(tmp_path):
    body = (
        '<fig><graphic xlink:href="a"/></fig><fig><graphic xlink:href="b"/></fig>'
        '<fig id="X"><graphic xlink:href="a"/></fig><fig id="X"><graphic xlink:href="b"/></fig>'
        '<fig id="V"><media xlink:href="v.mp4"/></fig>'
    )
    write_old(tmp_path, 1, article_xml(1, body), {"a.jpg": jpeg(1), "b.jpg": jpeg(2), "v.mp4": b"\0"})
    samples, drops, counts = items_of(tmp_path)
    assert [s.metadata["original_name"] for s in samples] == ["PMC1/a.jpg", "PMC1/b.jpg"] * 2
    assert len({s.key for s in samples}) == 4
    assert all(s.texts == {"caption": ""} for s in samples)
    assert drops == {"PMC1/V": "no_graphic"}
    assert counts == {"files passed by: video": 1}


def test_lists(tmp_path):
    write_old(tmp_path, 1, article_xml(1, figure(), licence=""), {"f1.jpg": jpeg(1)})
    path = tmp_path / "oa_comm.filelist.csv"  # the lists of the bulk packages have other columns
    path.write_text(
        "Article File,Article Citation,AccessionID,LastUpdated (YYYY-MM-DD HH:MM:SS),PMID,License,Retracted\n"
        "PMC000/PMC1.xml,J,PMC1,2020,1,CC BY-NC-SA,no\nPMC000/PMC2.xml,J,PMC2,2020,1,CC BY,no\n"
        "short,row\nx,J,none,2020,1,CC BY,no\n"
    )
    (sample,), drops, _ = items_of(tmp_path)
    assert sample.metadata["licence"] == "CC-BY-NC-SA"
    (unit,) = Pmc(str(tmp_path)).units()
    assert sorted(note[1:] for note in unit.selection["notes"]) == [
        ["bad_row", "2 of 4 rows have no Accession ID, or fields too many"],
        ["not_there", "1 of 4 listed articles are not in the folder"],
    ]
    assert drops == {"oa_comm.filelist.csv": "not_there"}


@pytest.mark.parametrize("input", ["", "missing", "empty"])
def test_a_folder_without_articles(tmp_path, input):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrepError, match=r"holds no article|is not a folder"):
        Pmc(str(tmp_path / input) if input else "").units()


def member(name, kind=tarfile.REGTYPE, link="", size=0):
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.size = kind, link, size
    return header


def test_members_that_are_refused_by_name(tmp_path):
    body = figure("F1", "f1") + figure("F2", "secret") + figure("F3", "hard")
    write_tar(
        tmp_path / "PMC1.tar.gz",
        [
            ("../../escape.jpg", jpeg(1)),
            ("/abs.jpg", jpeg(1)),
            ("PMC1/../../up.jpg", jpeg(1)),
            (member("PMC1/secret.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""),
            (member("PMC1/hard.jpg", tarfile.LNKTYPE, "PMC1/f1.jpg"), b""),
            (member("PMC1/null", tarfile.CHRTYPE), b""),
            (member("PMC1/pipe", tarfile.FIFOTYPE), b""),
            ("PMC1/f1.jpg", jpeg(5)),
            ("PMC1/f1.jpg", jpeg(6)),
            ("PMC1/a.nxml", article_xml(1, body)),
        ],
    )
    samples, drops, _ = items_of(tmp_path)
    assert [s.images["jpg"] for s in samples] == [jpeg(5)]
    names = (
        "../../escape.jpg",
        "/abs.jpg",
        "PMC1/../../up.jpg",
        "PMC1/secret.jpg",
        "PMC1/hard.jpg",
        "PMC1/null",
        "PMC1/pipe",
    )
    assert drops == dict.fromkeys([f"PMC1.tar.gz/{name}" for name in names], "bad_member") | {
        "PMC1/F2/secret": "missing_image",
        "PMC1/F3/hard": "missing_image",
    }
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["PMC1.tar.gz"]


def test_links_in_folders_are_refused(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(jpeg(1))
    version_folder = write_new(tmp_path / "in", 1, 1, article_xml(1, figure()), {})
    (version_folder / "f1.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "in" / "PMC2.tar.gz").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "in" / "around").symlink_to(tmp_path)
    samples, drops, _ = items_of(tmp_path / "in")
    assert samples == []
    assert drops == {
        "PMC1.1/f1.jpg": "bad_member",
        "PMC1/F1/f1": "missing_image",
        "PMC2.tar.gz": "link",
        "around": "link",
    }


def whole(number=1):
    return [(f"PMC{number}/f1.jpg", jpeg(1)), (f"PMC{number}/a.nxml", article_xml(number, figure()))]


def test_archives_that_are_dropped_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50)
    write_tar(tmp_path / "PMC1.tar.gz", [*whole(), ("PMC1/zeros.jpg", bytes(64 * 2**20))])
    write_tar(tmp_path / "PMC2.tar.gz", [*whole(2), *[(f"PMC2/{n}", b"") for n in range(60)]])
    cut = write_tar(tmp_path / "PMC3.tar.gz", whole(3))
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / "PMC4.tar.gz").write_bytes(b"not a tar at all")
    (tmp_path / "PMC5.tar.gz").write_bytes(b"")
    write_tar(tmp_path / "PMC6.tar.gz", [("PMC6/f1.jpg", jpeg(1))])
    write_tar(tmp_path / "PMC7.tar.gz", [("PMC7/a.nxml", article_xml(8, figure()))])
    bomb = '<!DOCTYPE article [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    write_tar(tmp_path / "PMC9.tar.gz", [("PMC9/a.nxml", article_xml(9, "<p>&b;</p>", prolog=bomb))])
    write_tar(tmp_path / "PMC10.tar.gz", whole(10))
    damaged = bytearray((tmp_path / "PMC10.tar.gz").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    (tmp_path / "PMC10.tar.gz").write_bytes(damaged)
    write_tar(tmp_path / "PMC11.tar.gz", whole(11))
    samples, drops, _ = items_of(tmp_path)
    assert [s.metadata["article"] for s in samples] == ["PMC11"]
    assert drops == {
        "PMC1.tar.gz": "zip_bomb",
        "PMC2.tar.gz": "too_many_members",
        "PMC3.tar.gz": "bad_archive",
        "PMC4.tar.gz": "bad_archive",
        "PMC5.tar.gz": "bad_archive",
        "PMC6.tar.gz": "no_xml",
        "PMC7.tar.gz": "pmcid_mismatch",
        "PMC9.tar.gz": "entities_refused",
        "PMC10.tar.gz": "bad_archive",
    }


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_extended_headers_that_would_fill_memory(tmp_path, kind):
    header = member("x", kind, size=2**40).tobuf(tarfile.GNU_FORMAT)
    with gzip.open(tmp_path / "PMC1.tar.gz", "wb") as file:
        file.write(header + bytes(2**20))
    assert items_of(tmp_path)[1] == {"PMC1.tar.gz": "bad_archive"}


@pytest.mark.parametrize("pax", [False, True])
def test_sizes_that_are_only_claimed(tmp_path, pax):
    header = member("PMC1/f1.jpg", size=0 if pax else 2**34)
    header.pax_headers = {"size": str(2**62)} if pax else {}
    claimed = header.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)
    with gzip.open(tmp_path / "PMC1.tar.gz", "wb") as file:
        file.write(claimed + b"\xff\xd8\xff" + bytes(2**20))
    started = time.process_time()
    assert items_of(tmp_path)[1] == {"PMC1.tar.gz": "bad_archive" if pax else "archive_too_large"}
    assert time.process_time() - started < 5


def test_archives_that_are_too_large_to_hold(tmp_path, monkeypatch):
    """What does not fit is read in a second pass, to the same samples."""
    body = "".join(figure(f"F{n}", f"f{n}") for n in range(4))
    write_old(tmp_path, 1, article_xml(1, body), {f"f{n}.jpg": jpeg(n) for n in range(4)})
    held = items_of(tmp_path)
    for budget in (0, len(jpeg(0)) + 10):
        monkeypatch.setattr(archives, "CACHE_BYTES", budget)
        assert items_of(tmp_path) == held
    assert [s.images["jpg"] for s in held[0]] == [jpeg(n) for n in range(4)]
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", 100)
    assert items_of(tmp_path)[1] == {
        next(iter(Pmc(str(tmp_path)).units()[0].selection["articles"]))[1]: "image_too_large"
    }


def test_captions_without_end(tmp_path):
    write_old(
        tmp_path,
        1,
        article_xml(1, figure(caption=f"<p>{'word ' * 100_000}</p>") + figure("F2", "f1")),
        {"f1.jpg": jpeg(1)},
    )
    write_old(tmp_path, 2, article_xml(2, figure(caption=f"<p>{'x' * 10_500_000}</p>")), {"f1.jpg": jpeg(2)})
    samples, drops, _ = items_of(tmp_path)
    assert [s.metadata["figure_id"] for s in samples] == ["F2"]
    assert sorted(drops.values()) == ["bad_xml", "caption_too_long"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b'{"a": "' + b"x" * 5_000_000 + b'"}'])
def test_metadata_that_cannot_be_read(tmp_path, content):
    write_new(tmp_path, 1, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)})
    (tmp_path / "metadata" / "PMC1.1.json").write_bytes(content)
    assert items_of(tmp_path)[:2] == ([], {"PMC1.1": "bad_metadata"})


def test_articles_that_went_away(tmp_path):
    paths = [
        write_old(tmp_path, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)}),
        write_new(tmp_path, 2, 1, article_xml(2, figure()), {"f1.jpg": jpeg(2)}),
    ]
    source = Pmc(str(tmp_path))
    (unit,) = source.units()
    for path in paths:
        path.rename(path.with_name("elsewhere"))
    assert [item.reason for item in source.read(unit)] == ["missing_archive"] * 2


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b"PMC1/\xff.jpg")
    write_tar(tmp_path / "PMC1.tar.gz", [(name, jpeg(2)), *whole()])
    samples, drops, _ = items_of(tmp_path)
    assert (len(samples), drops) == (1, {})


def test_the_parser_is_the_sources_own(tmp_path):
    """One article through the source says what the parser alone says."""
    xml = article_xml(1, figure() + '<p>In <xref ref-type="fig" rid="F1">Fig. 1</xref> it is.</p>')
    write_old(tmp_path, 1, xml, {"f1.jpg": jpeg(1)})
    (sample,), _, _ = items_of(tmp_path)
    (alone,) = parse_article(xml).figures
    assert (sample.texts["caption"], sample.texts["references"]) == (alone.caption, alone.references[0])


def test_pipes_are_not_waited_for(tmp_path):
    write_old(tmp_path, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)})
    version_folder = write_new(tmp_path, 2, 1, article_xml(2, figure()), {"f1.jpg": jpeg(2)})
    (version_folder / "PMC2.1.xml").unlink()
    for path in (tmp_path / "PMC5.tar.gz", tmp_path / "x.nxml", version_folder / "PMC2.1.xml"):
        os.mkfifo(path)
    samples, drops, _ = items_of(tmp_path)
    assert len(samples) == 1
    assert drops == {"PMC5.tar.gz": "bad_path", "x.nxml": "bad_path", "PMC2.1": "bad_path"}
    os.mkfifo(tmp_path / "oa_file_list.csv")
    with pytest.raises(PrepError, match=r"oa_file_list\.csv is not a regular file"):
        Pmc(str(tmp_path)).units()


def test_articles_that_became_pipes(tmp_path):
    paths = [
        write_old(tmp_path, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)}),
        write_new(tmp_path, 2, 1, article_xml(2, figure()), {"f1.jpg": jpeg(2)}) / "PMC2.1.xml",
    ]
    source = Pmc(str(tmp_path))
    (unit,) = source.units()
    for path in paths:
        path.unlink()
        os.mkfifo(path)
    assert [item.reason for item in source.read(unit) if isinstance(item, Dropped)] == ["bad_path"] * 2


def test_an_xml_that_is_a_link_is_not_read(tmp_path):
    version_folder = write_new(tmp_path, 1, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)})
    (version_folder / "PMC1.1.xml").rename(version_folder / "real.txt")
    (version_folder / "PMC1.1.xml").symlink_to("real.txt")
    assert items_of(tmp_path)[:2] == ([], {"PMC1.1": "bad_path"})


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nothing.json")])
def test_metadata_that_is_no_file(tmp_path, make):
    """Licence and retraction would be in it, so that the article cannot go on without."""
    write_new(tmp_path, 1, 1, article_xml(1, figure()), {"f1.jpg": jpeg(1)})
    metadata = tmp_path / "metadata" / "PMC1.1.json"
    metadata.unlink(missing_ok=True)
    make(metadata)
    assert items_of(tmp_path)[:2] == ([], {"PMC1.1": "bad_metadata"})


def test_an_archives_headers_are_not_kept(tmp_path, monkeypatch):
    """tarfile keeps every header, with all that extended headers say: gigabytes in an archive of 20 MB."""
    path = tmp_path / "PMC1.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for number in range(20):
            header = tarfile.TarInfo(f"PMC1/{number}")
            header.pax_headers = {"comment": "x" * 100_000}
            archive.addfile(header)
    alive = []

    def counted(name, member):
        alive.append(sum(isinstance(thing, tarfile.TarInfo) for thing in gc.get_objects()))
        return ""

    monkeypatch.setattr(archives, "_refusal", counted)
    assert len(archives.Archive(path).sizes) == 20
    assert max(alive) - min(alive) < 5


def test_what_systems_leave_behind_is_no_part_of_an_article(tmp_path):
    files = {"f1.jpg": jpeg(1), "._f1.jpg": b"mac", "._paper.nxml": b"mac", ".DS_Store": b"mac"}
    path = write_old(tmp_path, 1, article_xml(1, figure("F1", "f1", "<p>One.</p>")), files)
    path.with_name("._oa_file_list.csv").write_bytes(b"mac")
    source = Pmc(str(tmp_path))
    (unit,) = source.units()
    (sample,) = source.read(unit)
    assert sample.texts["caption"] == "One."
    assert source.counts["read", "files passed by: left by a system"] == 3
    assert source.input_counts == {"files passed by: left by a system": 1}


def test_fields_of_the_metadata_that_nothing_reads_are_counted(tmp_path):
    write_new(tmp_path, 1, 2, article_xml(1, figure()), {"f1.jpg": jpeg(1)}, journal_issue="3", empty="")
    _, _, counts = items_of(tmp_path)
    named = {counted_name for counted_name in counts if counted_name.startswith("fields ignored")}
    assert named == {f"fields ignored: metadata.{name}" for name in ("pmcid", "version", "journal_issue")}
