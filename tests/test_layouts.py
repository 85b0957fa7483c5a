"""Every published layout that a task is made for: a miniature's files are prepared, and the task gives scores of a stand-in."""

import hashlib
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml

from data_prep.pipeline import prepare
from data_prep.sources.labels import mni152
from medvlp.builders.data import as_conversations
from medvlp.builders.tasks import build_task, missing_capabilities
from medvlp.config import SourceConfig, value_of
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.task import TaskSettings
from medvlp.shards import ShardDataset
from tests.data_prep.folders import write_rocov2
from tests.data_prep.sources.labels.test_medmnist import write_npz
from tests.data_prep.sources.questions import test_multiple_choice, test_slake, test_vqa_rad
from tests.data_prep.sources.questions.records.miniatures import MINIATURES, write_csv, write_lines, write_parquet
from tests.shipped_tasks import SHIPPED_TASKS

NO_INTERVALS = Bootstrap(resamples=0)
OTHER_TESTS = {
    "breastmnist_classification": "needs a trained head",
    **dict.fromkeys(
        ("pcam_probe", "nct_crc_probe", "isic2019_probe", "chestxray14_probe"), "fits more than the miniature has"
    ),
}
"""Task → why it is not scored here. The zero-shot tasks of these probes read the same labels."""


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
    findings = np.random.default_rng(0).integers(0, 2, (12, 14))
    write_npz(folder / "set.npz", findings if options["set"] == "chestmnist" else [0, 1, 1] * 4)
    return folder / "set.npz"


def _mni152(folder: Path) -> Path:
    """All of it brain, in noise, as equal slices would be copies. Test lies behind the 41st and before the 50th."""
    volume = np.random.default_rng(0).integers(100, 255, (50, 50, 50), np.uint8)
    for file in mni152.FILES.values():
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(folder / file)
    return folder


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


def _kvasir_vqa(folder: Path) -> Path:
    image = {"bytes": test_vqa_rad.jpeg(4), "path": None}
    row = {"image": image, "source": "HyperKvasir", "question": "Are there polyps?", "answer": "Yes", "img_id": "c1"}
    write_parquet(folder / "data" / "raw-00000-of-00001.parquet", row)
    return folder


def _pmc_vqa(folder: Path) -> Path:
    tables = {name: [test_multiple_choice.V1, test_multiple_choice.UPTAKE] for name in ("train.csv", "test.csv")}
    return test_multiple_choice.write_pmc(folder, tables, ["images/PMC1064097_F1.jpg"])


def _beir(folder: Path) -> Path:
    write_lines(folder / "corpus.jsonl", *({"_id": f"d{n}", "title": "", "text": f"Text {n}."} for n in range(3)))
    write_lines(folder / "queries.jsonl", {"_id": "q1", "text": "which?"})
    write_csv(folder / "qrels" / "test.tsv", {"query-id": "q1", "corpus-id": "d1", "score": 1}, delimiter="\t")
    return folder


def _prepared_rocov2(folder: Path) -> Path:
    """With captions into which an error fits."""
    files = _rocov2(folder / "rocov2")
    for path in files.glob("*_captions.csv"):
        path.write_text(path.read_text().replace(", with a comma", ": a mass in the right lung. There is no effusion."))
    prepare("rocov2", str(files), folder / "prepared")
    return folder / "prepared"


def _reports(folder: Path, options: dict[str, object]) -> Path:
    if options.get("text") != "findings":
        return _prepared_rocov2(folder)
    prepare(
        "records", str(MINIATURES["iu_xray"](folder / "files")), folder / "prepared", options={"mapping": "iu_xray"}
    )
    return folder / "prepared"


LAYOUTS = {
    "kvasir_vqa": lambda folder, options: _kvasir_vqa(folder),
    "medmnist": _medmnist,
    "mni152": lambda folder, options: _mni152(folder),
    "pmc_vqa": lambda folder, options: _pmc_vqa(folder),
    "probe_questions": lambda folder, options: _prepared_rocov2(folder),
    "report_errors": _reports,
    "retrieval_sets": lambda folder, options: _beir(folder),
    "pathvqa": _pathvqa,
    "rocov2": lambda folder, options: _rocov2(folder),
    "slake": _slake,
    "vqa_rad": lambda folder, options: test_vqa_rad.write(folder, [], [test_vqa_rad.ROW]),
    "omnimedvqa": lambda folder, options: test_multiple_choice.write_omni(folder, A=[test_multiple_choice.ACRIMA]),
    "records": lambda folder, options: MINIATURES[options["mapping"]](folder),
}
"""Source → what writes its miniature into a folder."""


SCORED = [
    name for name, task in SHIPPED_TASKS.items() if value_of(task.prep, "source") in LAYOUTS and name not in OTHER_TESTS
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
    task = replace(SHIPPED_TASKS[name], data=str(prepared(tuple(SHIPPED_TASKS[name].prep))))
    if hasattr(task, "controls") and task.kind not in ("zero_shot", "multi_label"):
        task.controls = []
    if task.kind == "probe" and value_of(task.prep, "source") == "rocov2":
        task.classes = [name for name in task.classes if name in ("CT", "MRI", "C0040405", "C0024485")]
    if task.kind == "text":
        task.metrics = ["bleu", "findings"]  # the others load word lists for a second
    measured = build_task(task, TaskSettings(NO_INTERVALS))
    encoder = CachedEncoder(Encoder(), 4, 0, 10_000)
    result = measured.run(Assistant() if missing_capabilities(task, encoder.offers) else encoder)
    assert result.records
    assert any(math.isfinite(metric.value) for metric in result.metrics if metric.n)
    assert not [line for line in result.protocol["exclusions"] if "cannot be read" in line]


class Reciter(Assistant):
    """A stand-in that says what training would have it say."""

    def __init__(self, reply_of):
        self.reply_of = reply_of

    def generate(self, prompts, max_new_tokens):
        return [self.reply_of[prompt.turns[-1].text] for prompt in prompts]


RECIPE = yaml.safe_load((Path(__file__).parents[1] / "recipes/llava_rationale.yaml").read_text())
RATIONALE_FIRST = RECIPE["data"]["sources"]["llava_json"]["answer_template"]


@pytest.mark.parametrize("name", ["r_rad", "r_slake"])
@pytest.mark.parametrize("answer", [RATIONALE_FIRST, "The answer is ({answer}).\nSolution: {rationale}"])
def test_medthink_s_rationales_are_read_as_they_are_trained(name, answer, prepared):
    """The recipe's training text for R-RAD and R-SLAKE, in the task's words, scores right when a model says it."""
    task = replace(SHIPPED_TASKS[name], data=str(prepared(tuple(SHIPPED_TASKS[name].prep))), controls=[])
    source = SourceConfig(path=f"{task.data}/test", questions_as=name, answer_template=answer)
    sample = as_conversations(ShardDataset(Path(source.path)), source).read(0)
    reply_of = {turns[0].text: turns[1].text for turns in (item.turns for item in sample.conversations)}
    assert any("There is no free air" in reply for reply in reply_of.values())
    measured = build_task(task, TaskSettings(NO_INTERVALS))
    values = {metric.name: metric.value for metric in measured.run(Reciter(reply_of)).metrics}
    assert (values["generated_accuracy"], values["open_exact_match"], values["unparsed"]) == (1.0, 1.0, 0.0)
    other = {
        question: re.sub(r"\b[AB]\b", lambda m: "BA"["AB".index(m[0])], text) for question, text in reply_of.items()
    }
    values = {metric.name: metric.value for metric in measured.run(Reciter(other)).metrics}
    assert (values["generated_accuracy"], values["open_exact_match"], values["unparsed"]) == (0.0, 1.0, 0.0)
