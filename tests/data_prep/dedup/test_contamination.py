"""Training samples that stand in an evaluation set are named, with what gave them away."""

import io
import json
from pathlib import Path

import imagehash
import pytest
from PIL import Image

from data_prep.dedup import contamination
from data_prep.dedup.contamination import Match, Reference, find_matches
from data_prep.dedup.fingerprints import Fingerprints
from data_prep.dedup.visual_matches import Limits
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from medvlp.shards import Conversation, Sample, ShardDataset, Turn
from tests.data_prep.dedup.fingerprinted import fingerprints_of, sample_of, scene
from tests.data_prep.planted import ALTERED, encoded, plant
from tests.shards.folders import write_folder

LONG = "Axial CT of the chest shows a large effusion on the left."


def asked(key, question, answer, **metadata):
    turns = [Turn("user", question), Turn("assistant", answer)]
    return Sample(key, conversations=[Conversation(turns)], metadata=metadata)


EVALUATION = [
    sample_of("e0", encoded(scene(0)), caption=LONG, article="PMC7", source="roco", group="PMC7"),
    sample_of("e1", encoded(scene(1)), encoded(scene(2)), source="quilt", group="film 3"),
    asked("e2", "<image>Is there any evidence of an aortic aneurysm?", "No", source="vqa"),
]


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    write_folder(tmp_path / "evaluation" / "test", EVALUATION)
    return tmp_path / "evaluation" / "test"


@pytest.fixture
def reference(evaluation: Path, tmp_path: Path) -> Reference:
    return Reference.build({"made/test": evaluation}, tmp_path / "reference.parquet")


def found(folder, reference, *samples, limits=None, **options):
    return [
        (match.row, match.key, match.kind)
        for match in find_matches(fingerprints_of(folder, samples), reference, limits or Limits(), **options)
    ]


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        pytest.param(
            sample_of("a", article="pmc7", source="pmc_oa"), [("e0", "id")], id="article, from another source"
        ),
        pytest.param(sample_of("a", article="PMC70", source="roco"), [], id="another article"),
        pytest.param(sample_of("a", source="quilt", group="film 3"), [("e1", "id")], id="source and group"),
        pytest.param(sample_of("a", source="other", group="film 3"), [], id="group of another source"),
        pytest.param(sample_of("a", group="film 3"), [], id="group without a source"),
        pytest.param(sample_of("a", encoded(scene(0))), [("e0", "sha256")], id="bytes"),
        pytest.param(sample_of("a", encoded(scene(8)), encoded(scene(2))), [("e1", "sha256")], id="one of the images"),
        pytest.param(sample_of("a", encoded(scene(2), 60)), [("e1", "perceptual")], id="re-encoded"),
        pytest.param(sample_of("a", encoded(scene(8))), [], id="another picture"),
        pytest.param(sample_of("a", caption=LONG.upper()), [("e0", "text")], id="caption in other letters"),
        pytest.param(sample_of("a", caption=f"{LONG} Arrow."), [], id="another caption"),
        pytest.param(
            asked("a", "Is there any evidence of an aortic aneurysm?", "no."),
            [("e2", "text")],
            id="question and answer",
        ),
        pytest.param(asked("a", "Is there any evidence of an aortic aneurysm?", "yes"), [], id="another answer"),
        pytest.param(
            sample_of("a", encoded(scene(0)), caption=LONG, article="PMC7"),
            [("e0", "id"), ("e0", "sha256"), ("e0", "text")],
            id="each kind once",
        ),
    ],
)
def test_what_gives_a_sample_away(tmp_path, reference, sample, expected):
    rows = found(tmp_path / "marks", reference, sample_of("z"), sample)
    assert rows == [(1, key, kind) for key, kind in expected]


@pytest.mark.parametrize(("min_words", "is_found"), [(12, True), (13, False)])
def test_short_texts_are_common_property(tmp_path, reference, monkeypatch, min_words, is_found):
    monkeypatch.setattr(contamination, "MIN_WORDS", min_words)
    rows = found(tmp_path / "marks", reference, sample_of("a", caption=LONG))
    assert rows == [(0, "e0", "text")] * is_found


@pytest.mark.parametrize(("ours", "theirs", "is_found"), [(1, 1, True), (2, 2, True), (3, 1, False), (1, 3, False)])
def test_a_text_that_many_share_is_common_property(tmp_path, ours, theirs, is_found):
    """A sentence made of a label stands in train and in the evaluation set many times over, and says nothing."""
    made = [sample_of(f"e{n}", caption=LONG) for n in range(theirs)]
    write_folder(tmp_path / "evaluation", made)
    reference = Reference.build({"e": tmp_path / "evaluation"}, tmp_path / "reference.parquet")
    samples = [sample_of(f"k{n}", caption=LONG) for n in range(ours)]
    assert found(tmp_path / "marks", reference, *samples) == [(n, "e0", "text") for n in range(ours)] * is_found


def test_panels_of_one_figure_share_its_caption_and_count_once(tmp_path, reference):
    panels = [sample_of(f"k{n}", caption=LONG, source="pmc", group="PMC1") for n in range(6)]
    assert found(tmp_path / "marks", reference, *panels) == [(n, "e0", "text") for n in range(6)]


def test_a_text_that_its_source_made_of_a_label_does_not_count(tmp_path, reference):
    rows = found(tmp_path / "marks", reference, sample_of("k", caption=LONG, templated=["caption"]))
    assert rows == []


@pytest.mark.parametrize("kind", ["id", "sha256", "text"])
def test_each_way_of_matching_is_asked_for_by_itself(tmp_path, reference, kind):
    sample = sample_of("a", encoded(scene(0)), caption=LONG, article="PMC7")
    assert found(tmp_path / "marks", reference, sample, kinds=[kind]) == [(0, "e0", kind)]


def test_pictures_alone_are_asked_for(tmp_path, reference):
    samples = [sample_of("a", encoded(scene(0), 60), caption=LONG), sample_of("b", encoded(scene(0)))]
    rows = found(tmp_path / "marks", reference, *samples, kinds=["perceptual"])
    assert rows == [(0, "e0", "perceptual")]


def test_the_best_match_is_named(tmp_path):
    twins = [sample_of("worse", encoded(scene(0), 20)), sample_of("better", encoded(scene(0), 90))]
    write_folder(tmp_path / "twins", twins)
    reference = Reference.build({"twins": tmp_path / "twins"}, tmp_path / "reference.parquet")
    marks = fingerprints_of(tmp_path / "marks", [sample_of("a", encoded(scene(0), 85))])
    (match,) = find_matches(marks, reference, Limits())
    assert match == Match(0, "better", "twins", "perceptual", 0, match.similarity)
    assert 0.999 < match.similarity <= 1


def test_either_may_be_the_crop_of_the_other(tmp_path):
    """A 4% crop is beyond the radius of whole hashes; the inner hash of either side finds it."""
    whole = encoded(scene(5), 95)
    hashes = [imagehash.phash(Image.open(io.BytesIO(data))) for data in (whole, plant(whole, "cropped_4"))]
    assert hashes[0] - hashes[1] > 6
    for name, ours, theirs in (("a", whole, plant(whole, "cropped_4")), ("b", plant(whole, "cropped_4"), whole)):
        write_folder(tmp_path / name, [sample_of("e", theirs)])
        reference = Reference.build({name: tmp_path / name}, tmp_path / f"{name}.parquet")
        rows = found(tmp_path / f"marks_{name}", reference, sample_of("k", ours), limits=Limits(radius=6))
        assert rows == [(0, "e", "perceptual")]


def test_a_restart_does_not_decode_again(evaluation, reference, tmp_path, monkeypatch):
    file = tmp_path / "reference.parquet"
    before = file.read_bytes()
    monkeypatch.setattr(contamination, "fingerprint", lambda draft: pytest.fail("decoded again"))
    Reference.build({"made/test": evaluation}, file)
    assert file.read_bytes() == before


def test_another_evaluation_set_is_marked_anew(evaluation, reference, tmp_path):
    write_folder(tmp_path / "more", [sample_of("m0", encoded(scene(9)))])
    file = tmp_path / "reference.parquet"
    both = Reference.build({"made/test": evaluation, "more": tmp_path / "more"}, file)
    assert len(both.fingerprints) == 4
    match = find_matches(fingerprints_of(tmp_path / "marks", [sample_of("a", encoded(scene(9)))]), both, Limits())[0]
    assert (match.key, match.folder) == ("m0", "more")
    file.write_bytes(b"torn")
    assert len(Reference.build({"more": tmp_path / "more"}, file).fingerprints) == 1


def test_a_picture_that_cannot_be_decoded_is_known_by_its_bytes(tmp_path):
    torn = encoded(scene(1))[:400]
    write_folder(tmp_path / "torn", [sample_of("e0", torn), sample_of("e1", encoded(scene(2)))])
    reference = Reference.build({"torn": tmp_path / "torn"}, tmp_path / "reference.parquet")
    (hashes,) = [table["hash"].to_pylist() for table in reference.fingerprints.columns("hash")]
    assert [hash is None for (hash,) in hashes] == [True, False]
    huge = Reference.build({"torn": tmp_path / "torn"}, tmp_path / "reference.parquet", max_pixels=100)
    assert [table["hash"].to_pylist() for table in huge.fingerprints.columns("hash")] == [[[None], [None]]]


def test_an_evaluation_set_must_be_whole(evaluation, tmp_path):
    with pytest.raises(PrepError, match=r"finished splits: .*nowhere"):
        Reference.build({"x": tmp_path / "nowhere"}, tmp_path / "reference.parquet")
    tar = evaluation / "000000.tar"
    data = bytearray(tar.read_bytes())
    offset = data.index(b"\xff\xd8\xff")
    data[offset + 300 : offset + 310] = bytes(10)
    tar.write_bytes(data)
    with pytest.raises(PrepError, match="medvlp verify"):
        Reference.build({"x": evaluation}, tmp_path / "reference.parquet")
    assert not (tmp_path / "reference.parquet").exists()


@pytest.fixture(scope="module")
def vqa_rad(test_data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("vqa_rad")
    prepare("vqa_rad", str(test_data / "vqa_rad"), output)
    assert json.loads((output / "ledger.json").read_text())["splits"]["test"]["out"] == 203
    return output


@pytest.mark.slow
def test_copies_of_vqa_rads_test_pictures_are_found(vqa_rad, test_data, tmp_path):
    """Unaltered copies all, by bytes; measured of the altered ones: 202 of 203 that lost 4% a side, all of the others."""
    test = ShardDataset(vqa_rad / "test")
    reference = Reference.build({"vqa_rad/test": vqa_rad / "test"}, tmp_path / "reference.parquet")
    pictures = [next(iter(test.read(i).images.values())) for i in range(len(test))]
    for kind in ("unaltered", *ALTERED):
        samples = [sample_of(f"k{n}", plant(data, kind)) for n, data in enumerate(pictures)]
        matches = find_matches(fingerprints_of(tmp_path / kind, samples), reference, Limits())
        assert all(match.key == test.key(match.row) for match in matches)
        assert {match.kind for match in matches} == {"sha256" if kind == "unaltered" else "perceptual"}
        assert len(matches) >= (202 if kind == "cropped_4" else 203)
    figures = [sample_of(p.stem, p.read_bytes()) for p in sorted(test_data.glob("rocov2/*/*.jpg"))]
    assert (
        find_matches(fingerprints_of(tmp_path / "rocov2", figures), reference, Limits()) == []
    )  # by eye: none is there


@pytest.mark.slow
def test_vqa_rads_own_training_questions_are_about_its_test_pictures(vqa_rad, tmp_path):
    train = ShardDataset(vqa_rad / "train")
    marks = fingerprints_of(tmp_path / "marks", [train.read(i) for i in range(len(train))])
    reference = Reference.build({"vqa_rad/test": vqa_rad / "test"}, tmp_path / "reference.parquet")
    kinds = [match.kind for match in find_matches(marks, reference, Limits())]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"id": 203, "sha256": 203, "text": 10}


def test_nothing_is_found_where_there_is_nothing(reference, tmp_path):
    assert find_matches(Fingerprints([]), reference, Limits()) == []
    write_folder(tmp_path / "texts", [asked("e", "What is this?", "Nothing")])
    empty = Reference.build({"texts": tmp_path / "texts"}, tmp_path / "texts.parquet")
    assert found(tmp_path / "marks", empty, sample_of("a", encoded(scene(0)))) == []
