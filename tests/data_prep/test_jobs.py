"""One unit: what comes in is what goes out and what was dropped, and only a whole part counts as done."""

import json
from collections import Counter
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from data_prep import sources
from data_prep.draft import Draft, Drop
from data_prep.jobs import CopyJob, Job, SourceSpec, forget_source, read_part, run_job
from data_prep.pipeline import prepare
from data_prep.source import Dropped, Source, Unit
from data_prep.stages import apply_stages
from medvlp.shards import FileMark, Sample, ShardDataset, read_members
from medvlp.shards.writer import mark_file
from tests.data_prep.folders import digests, jpeg

FILES = (".tar", ".idx", ".parquet", ".marks.parquet", ".drops.jsonl")


class Rows(Source):
    """A source of as many samples as its unit says, followed by one row that is none."""

    name = "rows"
    description = "as many samples as a unit says"

    def options(self):
        return {}

    def fingerprint(self):
        return {"rows": "1"}

    def units(self):
        return [Unit("train", 0, 3), Unit("test", 0, 2)]

    def read(self, unit):
        self.counts = Counter({("read", "lines passed by"): unit.selection})
        for n in range(unit.selection):
            yield Sample(
                f"rows__{unit.split}__{n}__0",
                {"jpg": jpeg(n + 10 * (unit.split == "test"))},
                {"caption": "" if n == 1 else f"Figure {n}"},
                metadata={"source": "rows", "licence": "CC0-1.0", "original_name": f"{n}.jpg"},
            )
        yield Dropped("lost.jpg", "missing_image", "there is no such file")


STAGES = [
    {"stage": "clean_text"},
    {"stage": "need_text"},
    {"stage": "check_images", "max_pixels": 10_000, "min_side": 16, "max_aspect": 20.0},
    {"stage": "measure"},
    {"stage": "describe"},
]


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Three samples, of which one has no caption, and a row that is none."""
    monkeypatch.setitem(sources.SOURCES, "rows", f"{__name__}:Rows")
    forget_source()
    (tmp_path / "parts").mkdir()
    yield Job(SourceSpec("rows", "", 3, "", "{}"), STAGES, tmp_path / "parts", Unit("train", 0, 3), "digest")
    forget_source()


def test_the_page_of_a_unit(job):
    part = run_job(job)
    page = json.loads(part.file(job.folder, ".json").read_bytes())
    marks = page.pop("files")
    others = page.pop("others")
    assert page == {
        "digest": "digest",
        "split": "train",
        "rows": 4,
        "entered": 4,
        "samples": 2,
        "drops": {"need_text": {"empty_caption": 1}, "read": {"missing_image": 1}},
        "counts": {"read": {"lines passed by": 3}},
        "classes": {},
        "blacked": [],
    }
    assert set(marks) == {".tar", ".idx"}
    marked = {suffix: FileMark(**mark) for suffix, mark in (marks | others).items()}
    assert marked == {suffix: mark_file(job.folder / f"digest{suffix}") for suffix in FILES}
    assert [(row["split"], row["name"], row["reason"]) for row in part.named_drops(job.folder)] == [
        ("train", "1.jpg", "empty_caption"),
        ("train", "lost.jpg", "missing_image"),
    ]
    assert read_part(job.folder, "digest", thorough=True) == part


def test_what_a_private_source_removed_is_counted(job, monkeypatch):
    def read(self, unit):
        for n, removed in enumerate([{"names": 2, "dates": 1}, {"names": 3}, {}]):
            yield Sample(f"rows__p__{n}__0", texts={"caption": "c"}, metadata={"deidentified": removed})

    monkeypatch.setattr(Rows, "read", read)
    assert run_job(replace(job, stages=[])).counts == {"read": {"removed dates": 1, "removed names": 5}}


@pytest.mark.parametrize("private", [False, True])
def test_classes_are_counted_unless_they_could_be_names(job, monkeypatch, private):
    def read(self, unit):
        yield Sample("rows__p__0__0", texts={"caption": "c"}, labels={"label_name": ["a", "b"], "size": 3, "kind": "x"})
        yield Dropped("x.jpg", "missing_image", "", labels={"label_name": "c"})

    monkeypatch.setattr(Rows, "read", read)
    monkeypatch.setattr(Rows, "private", private, raising=False)
    remaining = {"kind": {"x": 1}, "label_name": {"a": 1, "b": 1}}
    entered = {**remaining, "label_name": {"a": 1, "b": 1, "c": 1}}
    assert run_job(replace(job, stages=[])).classes == ({} if private else {"in": entered, "out": remaining})


def test_panels_come_in_beside_rows(job, monkeypatch):
    """Figure 0 becomes three panels, of which the second is dropped; figure 2 becomes none at all."""

    def split(draft):
        if draft.sample.key == "rows__train__0__0":
            panels = [Sample(f"rows__train__0__{n}", draft.sample.images, {"caption": "c"}) for n in (1, 2, 3)]
            return [Draft(panel, draft.counts) for panel in panels]
        return [] if draft.sample.key == "rows__train__2__0" else draft

    def refuse(draft):
        if draft.sample.key == "rows__train__0__2":
            raise Drop("refuse", "second", "")
        return draft

    monkeypatch.setattr("data_prep.jobs.build_stages", lambda stages: [split, refuse])
    part = run_job(job)
    assert (part.rows, part.samples_in, part.samples) == (4, 7, 3)
    assert part.drops == {
        "read": {"missing_image": 1},
        "refuse": {"second": 1},
        "split_panels": {"replaced_by_panels": 2},
    }


def loses_one(stages, draft):
    return [] if draft.sample.key.endswith("2__0") else apply_stages(stages, draft)


def doubles(stages, draft):
    twice = Sample(draft.sample.key + "-again", draft.sample.images, draft.sample.texts)
    return apply_stages(stages, draft) + apply_stages(stages, Draft(twice))


def loses_a_panel(stages, draft):
    whole = Drop("split_panels", "replaced_by_panels", "2 panels")
    whole.panels = 2
    return [whole, draft]


@pytest.mark.parametrize(
    ("apply", "complaint"),
    [
        (loses_one, "4 rows and 0 panels came in, 1 samples and 2 drops went out"),
        (doubles, "4 rows and 0 panels came in, 4 samples and 3 drops went out"),
        (loses_a_panel, "4 rows and 6 panels came in, 3 samples and 4 drops went out"),
    ],
)
def test_a_sample_that_is_lost_or_made_up_is_noticed(job, monkeypatch, apply, complaint):
    monkeypatch.setattr("data_prep.jobs.apply_stages", apply)
    with pytest.raises(AssertionError, match=f"^{complaint}$"):
        run_job(job)
    assert read_part(job.folder, "digest") is None


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path):
    with open(path, "ab") as file:
        file.write(b"\n")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [*FILES, ".json"])
def test_a_part_that_lacks_a_file_is_not_done(job, suffix):
    part = run_job(job)
    whole = {path.name: path.read_bytes() for path in job.folder.iterdir()}
    assert set(whole) == {f"digest{suffix}" for suffix in (*FILES, ".json")}
    (job.folder / f"digest{suffix}").unlink()
    assert read_part(job.folder, "digest") is None
    run_job(job)
    assert read_part(job.folder, "digest") == part
    assert {path.name: path.read_bytes() for path in job.folder.iterdir()} == whole


@pytest.mark.parametrize("damage", [shorten, lengthen])
@pytest.mark.parametrize("suffix", FILES)
def test_a_part_with_a_file_of_another_size_is_not_done(job, suffix, damage):
    part = run_job(job)
    damage(job.folder / f"digest{suffix}")
    assert read_part(job.folder, "digest") is None
    run_job(job)
    assert read_part(job.folder, "digest") == part


@pytest.mark.parametrize("suffix", [".tar", ".idx"])
def test_other_bytes_of_a_shard_are_noticed_by_its_checksum(job, suffix):
    part = run_job(job)
    flip(job.folder / f"digest{suffix}")
    assert read_part(job.folder, "digest") == part  # sizes alone are cheap
    assert read_part(job.folder, "digest", thorough=True) is None


@pytest.mark.parametrize("suffix", [".parquet", ".marks.parquet", ".drops.jsonl"])
def test_other_bytes_of_a_table_are_noticed_by_its_checksum(job, suffix):
    run_job(job)
    flip(job.folder / f"digest{suffix}")
    assert read_part(job.folder, "digest", thorough=True) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"files": {}}', '{"files": {".tar": {"size": 3}}}'])
def test_a_page_that_is_none(job, content):
    run_job(job)
    (job.folder / "digest.json").write_text(content)
    assert read_part(job.folder, "digest") is None
    assert read_part(job.folder, "never") is None


@pytest.mark.parametrize("lacking", ["drops", "others", "samples", "digest"])
def test_a_page_that_lacks_a_field(job, lacking):
    run_job(job)
    page = json.loads((job.folder / "digest.json").read_text())
    del page[lacking]
    (job.folder / "digest.json").write_text(json.dumps(page))
    assert read_part(job.folder, "digest") is None


def test_a_unit_of_which_nothing_is_left(job, monkeypatch):
    """Only its page and its drops: no shard, no tables."""

    def refuse(draft):
        raise Drop("refuse", "all", "")

    monkeypatch.setattr("data_prep.jobs.build_stages", lambda stages: [refuse])
    part = run_job(job)
    assert (part.samples_in, part.samples, part.files) == (4, 0, {})
    assert sorted(path.name for path in job.folder.iterdir()) == ["digest.drops.jsonl", "digest.json"]
    assert read_part(job.folder, "digest", thorough=True) == part


def test_a_copied_shard_is_of_its_split_and_of_the_same_bytes(job):
    run_job(job)
    copy = CopyJob(job.folder, "test", [("digest", [1])], "copy")
    part = run_job(copy)
    assert (part.split, part.rows, part.samples_in, part.samples, part.drops) == ("test", 1, 1, 1, {})
    members = list(read_members(job.folder / "digest.tar", [1]))
    assert list(read_members(job.folder / "copy.tar", [0])) == members
    assert set(members[0]) == {"jpg", "txt", "json"}
    rows = [pq.read_table(job.folder / f"{name}.parquet").to_pylist() for name in ("digest", "copy")]
    assert rows[1] == [{**rows[0][1], "split": "test", "shard": "copy.tar"}]
    assert read_part(job.folder, "copy", thorough=True) == part
    (job.folder / "copy.parquet").unlink()
    assert read_part(job.folder, "copy") is None


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("lost", [True, False])
def test_a_preparation_does_damaged_units_anew(job, tmp_path, suffix, lost):
    cache = tmp_path / "cache"
    choices = {"workers": 1, "cache": str(cache), "samples_per_shard": 3}
    prepare("rows", "", tmp_path / "one", **choices)
    before = digests(tmp_path / "one")
    hurt = sorted(cache.glob(f"*{suffix}"))[0]
    if suffix == ".parquet":
        hurt = next(path for path in sorted(cache.glob("*.parquet")) if not path.name.endswith(".marks.parquet"))
    content = hurt.read_bytes()
    hurt.unlink()  # the first folder keeps its own name of it
    if not lost:
        hurt.write_bytes(content[: len(content) // 2])
    prepare("rows", "", tmp_path / "two", **choices)
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (run["units_done_before"], run["units"]) == (1, 2)
    assert hurt.read_bytes() == content
    assert digests(tmp_path / "two") == before == digests(tmp_path / "one")


@pytest.mark.parametrize("suffix", [".tar", ".idx"])
def test_a_cache_is_trusted_by_checksum(job, tmp_path, suffix):
    """It outlives what was made of it: a bit that fell over there would be in every later data set."""
    cache = tmp_path / "cache"
    choices = {"workers": 1, "cache": str(cache), "samples_per_shard": 3}
    prepare("rows", "", tmp_path / "one", **choices)
    hurt = sorted(cache.glob(f"*{suffix}"))[0]
    content = hurt.read_bytes()
    hurt.unlink()
    hurt.write_bytes(content)
    flip(hurt)
    prepare("rows", "", tmp_path / "two", **choices)
    assert hurt.read_bytes() == content
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
    train = ShardDataset(tmp_path / "two" / "train")
    assert [train.read(n).texts["caption"] for n in range(2)] == ["Figure 0", "Figure 2"]
