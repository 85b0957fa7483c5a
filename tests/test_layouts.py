"""Every published layout that a task is made for: a miniature's files are prepared, and the task gives scores of a stand-in."""

import hashlib
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data_prep.pipeline import prepare
from medvlp.builders.tasks import build_task, missing_capabilities
from medvlp.config import list_options, load_task, value_of
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.task import TaskSettings
from tests.data_prep.folders import write_rocov2
from tests.data_prep.sources.labels.test_medmnist import write_npz
from tests.data_prep.sources.questions import test_multiple_choice, test_slake, test_vqa_rad
from tests.data_prep.sources.questions.records.miniatures import MINIATURES, write_parquet

NO_INTERVALS = Bootstrap(resamples=0)
OTHER_TESTS = {
    "mni152_plane": "needs no files",
    "breastmnist_classification": "needs a trained head",
    "rocov2_retrieval": "as rocov2_captions",
}
"""Task → why it is not scored here. Those of kind probe are fitted, and are tested with their kind."""


class Assistant:
    """A stand-in that answers B to everything, and finds short options likely."""

    offers, identity, takes_images = ("generate", "loglikelihood"), "stand-in", True

    def pictures(self, sample):
        return [None] * len(sample.images)

    def gathered(self, images):
        return [None] * len(images)

    def blank(self, count):
        return [None] * count

    def fits(self, turns, option_turns, images, options, max_new_tokens):
        return True

    def prompt_text(self, turns, images):
        return turns[-1].text

    def generate(self, prompts, max_new_tokens):
        return ["B"] * len(prompts)

    def loglikelihood(self, prompts, answers):
        return [[(-float(len(text)), 1) for text in texts] for texts in answers]

    def metadata(self):
        return {}


class Encoder:
    """A stand-in whose embeddings are digests of what it is given."""

    identity, transform_identity, execution = "digests", "pixels", "cpu float32"

    def transform(self, image):
        return torch.from_numpy(np.array(image.convert("RGB").resize((2, 2)), np.float32))

    def encode_image(self, pixels_BCHW):
        return torch.nn.functional.normalize(pixels_BCHW.flatten(1)[:, :8] - 128, dim=1)

    def encode_text(self, texts):
        digests = [hashlib.sha256(text.encode()).digest()[:8] for text in texts]
        return torch.nn.functional.normalize(torch.tensor([list(digest) for digest in digests]).float() - 128, dim=1)


def _medmnist(folder: Path, options: dict[str, str]) -> Path:
    findings = np.eye(14, dtype=int)[[0, 3, 5]]
    write_npz(folder / "set.npz", findings if options["set"] == "chestmnist" else [0, 1, 1])
    return folder / "set.npz"


def _rocov2(folder: Path) -> Path:
    """With a concept that figures of both modalities have, as composed retrieval needs one."""
    write_rocov2(folder)
    for path in folder.glob("*_concepts*.csv"):
        path.write_text(path.read_text().replace(",C0024485", ",C0024485;C0817096"))
    return folder


def _slake(folder: Path, options: dict[str, str]) -> Path:
    """With a box for the task that asks for boxes."""
    test_slake.write(folder, [], test=[test_slake.ROW])
    if "boxes" in options:
        (folder / "imgs/xmlab102/detection.json").write_text('[{"Liver": [2.0, 4.0, 10.0, 12.0]}]')
    return folder


def _pathvqa(folder: Path, options: dict[str, str]) -> Path:
    image = {"bytes": test_vqa_rad.jpeg(3), "path": None}
    for split in ("train", "validation", "test"):
        row = {"image": image, "question": "is it fat?", "answer": "yes"}
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", row)
    return folder


LAYOUTS = {
    "medmnist": _medmnist,
    "pathvqa": _pathvqa,
    "rocov2": lambda folder, options: _rocov2(folder),
    "slake": _slake,
    "vqa_rad": lambda folder, options: test_vqa_rad.write(folder, [], [test_vqa_rad.ROW]),
    "omnimedvqa": lambda folder, options: test_multiple_choice.write_omni(folder, A=[test_multiple_choice.ACRIMA]),
    "records": lambda folder, options: MINIATURES[options["mapping"]](folder),
}
"""Source → what writes its miniature into a folder."""


TASKS = {name: load_task(name) for name in list_options("configs/task")}
SCORED = [
    name
    for name, task in TASKS.items()
    if value_of(task.prep, "source") in LAYOUTS and task.kind != "probe" and name not in OTHER_TESTS
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of a task's data: a miniature of its source's layout, prepared as the task says."""

    @cache
    def prepare_miniature(prep):
        pairs = [argument.removeprefix("options.").split("=", 1) for argument in prep]
        options = {key: yaml.safe_load(text) for key, text in pairs}
        source = options.pop("source")
        folder = tmp_path_factory.mktemp(source)
        (folder / "files").mkdir()
        prepare(source, str(LAYOUTS[source](folder / "files", options)), folder / "data", options=options)
        return folder / "data"

    return prepare_miniature


@pytest.mark.parametrize("name", SCORED)
def test_from_a_layout_s_files_to_a_score(name, prepared):
    task = replace(TASKS[name], data=str(prepared(tuple(TASKS[name].prep))))
    if task.kind != "zero_shot" and task.kind != "multi_label":
        task.controls = []
    if task.kind == "text":
        task.metrics = ["bleu", "findings"]  # the others load word lists for a second
    measured = build_task(task, TaskSettings(NO_INTERVALS))
    encoder = CachedEncoder(Encoder(), 4, 0, 10_000)
    result = measured.run(Assistant() if missing_capabilities(task, encoder.offers) else encoder)
    assert result.records
    assert any(math.isfinite(metric.value) for metric in result.metrics if metric.n)
    assert not [line for line in result.protocol["exclusions"] if "cannot be read" in line]
