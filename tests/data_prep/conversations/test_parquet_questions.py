"""PathVQA and Kvasir-VQA: images inside parquet files."""

import csv
import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.conversations import parquet_questions as parquet_module
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from medvlp.shards import ShardDataset, verify
from tests.data_prep.folders import jpeg


def cell(number):
    return {"bytes": None if number is None else jpeg(number), "path": None}


def write_parquet(path, columns, row_group_size=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)


def write_pathvqa(folder):
    """Train: images 1, 2, 3 over two files, image 1 in both; image 3 also in test."""
    plan = {
        "train-00000-of-00002": [
            (1, "is it necrosis?", "yes"),
            (2, "what is seen?", "fat"),
            (1, "where is it?", "liver"),
        ],
        "train-00001-of-00002": [(3, "what is shown?", "kidney"), (1, "are there cysts?", "No")],
        "validation-00000-of-00001": [(4, "what?", "spleen")],
        "test-00000-of-00001": [(3, "is it kidney?", "yes")],
    }
    for name, rows in plan.items():
        images, questions, answers = zip(*rows, strict=True)
        columns = {"image": [cell(n) for n in images], "question": list(questions), "answer": list(answers)}
        write_parquet(folder / "data" / f"{name}.parquet", columns)
    return folder


def items_of(source, folder, samples_per_shard=1000):
    reader = open_source(source, str(folder), samples_per_shard)
    read = {split: [] for split in reader.splits}
    for unit in reader.units():
        read[unit.split] += list(reader.read(unit))
    return read


@pytest.mark.parametrize("samples_per_shard", [1, 2, 1000])
def test_pathvqa(tmp_path, samples_per_shard):
    items = items_of("pathvqa", write_pathvqa(tmp_path / "in"), samples_per_shard)
    train = items["train"]
    assert [s.images for s in train] == [{"jpg": jpeg(1)}, {"jpg": jpeg(2)}, {"jpg": jpeg(3)}]
    assert [[c.id for c in s.conversations] for s in train] == [["0", "2", "4"], ["1"], ["3"]]
    assert [c.metadata["answer_type"] for c in train[0].conversations] == ["closed", "open", "closed"]
    assert [turn.text for turn in train[0].conversations[2].turns] == ["<image>\nare there cysts?", "No"]
    digest = hashlib.sha256(jpeg(1)).hexdigest()
    assert train[0].key == f"pathvqa__{digest[:16]}__train__0"
    assert train[0].metadata == {
        "group": digest[:16],
        "group_kind": "image",
        "image_id": digest[:16],
        "licence": "MIT",
        "modality": "pathology",
        "original_name": digest,
        "source": "pathvqa",
    }
    (test,) = items["test"]
    assert (test.metadata["group"], test.conversations[0].id) == (train[2].metadata["group"], "0")
    assert [s.images for s in items["valid"]] == [{"jpg": jpeg(4)}]


def test_pathvqa_prepared_by_two_processes(tmp_path):
    folder = write_pathvqa(tmp_path / "in")
    result = prepare("pathvqa", str(folder), tmp_path / "out", workers=2, samples_per_shard=1)
    assert (result.ledger["in"], result.ledger["out"], verify(tmp_path / "out")) == (5, 5, [])
    data = ShardDataset(tmp_path / "out" / "train")
    assert [data.read(i).images["jpg"] for i in range(3)] == [jpeg(1), jpeg(2), jpeg(3)]


def test_rows_of_pathvqa_that_cannot_become_samples(tmp_path, monkeypatch):
    folder = write_pathvqa(tmp_path / "in")
    columns = {
        "image": [
            cell(1),
            cell(None),
            {"bytes": b"GIF89a", "path": "x"},
            cell(2),
            {"bytes": b"\xff\xd8\xff" * 3000, "path": ""},
        ],
        "question": ["a?", "b?", "c?", None, "e?"],
        "answer": ["x", "x", "x", "x", "x"],
    }
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", columns)
    monkeypatch.setattr(parquet_module, "MAX_IMAGE_BYTES", 8000)
    name = "validation-00000-of-00001.parquet row"
    assert [(item.name, item.reason) for item in items_of("pathvqa", folder)["valid"] if isinstance(item, Dropped)] == [
        (f"{name} 1", "missing_image"),
        (f"{name} 2", "image_format"),
        (f"{name} 3", "missing_question"),
        (f"{name} 4", "image_too_large"),
    ]


def test_images_are_the_same_with_and_without_a_dictionary(tmp_path, monkeypatch):
    folder = write_pathvqa(tmp_path / "in")
    images = [item.images for item in items_of("pathvqa", folder)["train"]]
    monkeypatch.setattr(parquet_module, "MAX_DICTIONARY_BYTES", 0)
    assert [item.images for item in items_of("pathvqa", folder)["train"]] == images
    assert [list(image.values()) for image in images] == [[jpeg(number)] for number in (1, 2, 3)]


def test_an_image_that_rows_share_is_in_memory_once(tmp_path):
    image = {"bytes": b"\xff\xd8\xff".ljust(5_000_000, b"\0"), "path": None}
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": [image] * 40}), path, compression="zstd")
    group = parquet_module._group_images(path, 0, "image")
    assert group.get_total_buffer_size() < 10_000_000
    assert group[39].as_py() == image


def test_folders_that_are_not_pathvqa(tmp_path):
    folder = write_pathvqa(tmp_path / "in")
    write_parquet(folder / "data" / "test-00000-of-00001.parquet", {"image": [cell(1)], "question": ["a?"]})
    with pytest.raises(PrepError, match=r"has the columns image, question; it lacks answer"):
        open_source("pathvqa", str(folder)).units()
    (folder / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(PrepError, match=r"test-00000-of-00001\.parquet cannot be read"):
        open_source("pathvqa", str(folder)).units()
    (folder / "data" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(PrepError, match=r"it lacks data/test-\*\.parquet; download the parquet release"):
        open_source("pathvqa", str(folder))


KVASIR = [  # image, img_id, source, question, answer
    (1, "cl8k2u1pm", "HyperKvasir", "Are there any polyps?", "No"),
    (2, "cl8k2u1pn", "Kvasir-Instrument", "What colour is the abnormality?", "pink; red"),
    (1, "cl8k2u1pm", "HyperKvasir", "How many findings are there?", "0"),
]


def write_kvasir(folder, form):
    images, ids, sources, questions, answers = (list(column) for column in zip(*KVASIR, strict=True))
    columns = {"source": sources, "question": questions, "answer": answers, "img_id": ids}
    if form == "parquet":
        write_parquet(folder / "data" / "00000.parquet", {"image": [cell(n) for n in images], **columns})
        return folder
    (folder / "images").mkdir(parents=True)
    for number, id in zip(images, ids, strict=True):
        (folder / "images" / f"{id}.jpg").write_bytes(jpeg(number))
    with open(folder / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return folder


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_kvasir_vqa(tmp_path, form):
    items = items_of("kvasir_vqa", write_kvasir(tmp_path / "in", form))
    assert list(items) == ["train"]
    first, second = items["train"]
    assert (first.images, second.images) == ({"jpg": jpeg(1)}, {"jpg": jpeg(2)})
    assert [(c.id, c.metadata["answer_type"], c.turns[1].text) for c in first.conversations] == [
        ("0", "closed", "No"),
        ("2", "open", "0"),
    ]
    assert first.key == "kvasir_vqa__cl8k2u1pm__train__0"
    assert first.metadata == {
        "collection": "HyperKvasir",
        "group": "cl8k2u1pm",
        "group_kind": "image",
        "image_id": "cl8k2u1pm",
        "licence": "CC-BY-NC-4.0",
        "modality": "endoscopy",
        "original_name": "cl8k2u1pm.jpg",
        "source": "kvasir_vqa",
    }


def test_both_forms_of_kvasir_give_the_same_samples(tmp_path):
    forms = [items_of("kvasir_vqa", write_kvasir(tmp_path / form, form)) for form in ("parquet", "csv")]
    assert forms[0] == forms[1]


def test_rows_of_kvasir_that_cannot_become_samples(tmp_path):
    folder = write_kvasir(tmp_path / "in", "csv")
    with open(folder / "metadata.csv", "ab") as file:
        file.write(
            b"HyperKvasir,Is it \xe9?,no,cl8k2u1pm\r\nHyperKvasir,short\r\nHyperKvasir,Where?,gut,../metadata\r\n"
        )
    drops = [item for item in items_of("kvasir_vqa", folder)["train"] if isinstance(item, Dropped)]
    assert [(drop.name, drop.reason) for drop in drops] == [
        ("metadata.csv line 5 (img_id cl8k2u1pm)", "not_utf8"),
        ("metadata.csv line 6", "bad_row"),
        ("metadata.csv line 7 (img_id ../metadata)", "bad_path"),
    ]


def test_folders_that_are_not_kvasir(tmp_path):
    with pytest.raises(PrepError, match=r"neither data/\*\.parquet nor metadata\.csv"):
        open_source("kvasir_vqa", str(tmp_path))
    (tmp_path / "metadata.csv").write_text("question,answer\n")
    with pytest.raises(PrepError, match=r"has the columns question, answer; it lacks source, img_id"):
        open_source("kvasir_vqa", str(tmp_path)).units()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_fingerprint_of_kvasir_follows_its_images(tmp_path, form):
    folder = write_kvasir(tmp_path / "in", form)
    before = open_source("kvasir_vqa", str(folder)).fingerprint()
    if form == "csv":
        (folder / "images" / "cl8k2u1pn.jpg").write_bytes(jpeg(2, side=80))
    else:
        others = {"image": [cell(1), cell(3), cell(1)]}
        old = pq.read_table(folder / "data" / "00000.parquet").to_pydict()
        write_parquet(folder / "data" / "00000.parquet", {**old, **others})
    assert open_source("kvasir_vqa", str(folder)).fingerprint() != before
