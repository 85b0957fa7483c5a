"""Scores of an exported folder are open_clip's own and clip_benchmark's, on the same images and prompts."""

import io

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from medvlp.builders.models import open_model
from medvlp.config import EvalConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.eval.zero_shot import ZeroShot
from medvlp.export.open_clip import write_folder
from medvlp.models.clip.sources import named
from medvlp.shards import ShardDataset
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture

CLASSES = {
    f"k{number}": [f"{word} tissue", f"a {word} organ"] for number, word in enumerate(("red", "calm", "x", "old"))
}
TEMPLATES = ["an image of {}", "this shows {}."]
QUIET = Bootstrap(resamples=0)


class Batches(list):
    """A loader of clip_benchmark's, with the classes of its data set."""

    classes = tuple(CLASSES)

    @property
    def dataset(self):
        return self


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """(our model, open_clip's model, its transform and tokenizer, the split)."""
    folder = tmp_path_factory.mktemp("benchmark")
    split = ShardDataset(write_split(folder / "made/test", pairs(48)))
    torch.manual_seed(3)
    clip = named(str(tiny_architecture(folder)))
    with torch.no_grad():  # random weights hardly tell images from each other; larger ones do
        for name, parameter in clip.model.named_parameters():
            parameter.mul_(1 if "ln" in name or "logit" in name else 3)
    (folder / "exported").mkdir()
    write_folder(clip, folder / "exported", "0" * 64)
    config = EvalConfig(checkpoints=["x"], tasks=["x"], batch_size=7, workers=0)
    ours = open_model(parse_model_name(f"open_clip:{folder}/exported"), "cpu", config)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}/exported")
    return ours, model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}/exported"), split


def samples_of(split, transform):
    samples = [split.read(row) for row in range(len(split))]
    pixels = torch.stack([transform(Image.open(io.BytesIO(sample.images["jpg"]))) for sample in samples])
    return samples, pixels


def accuracy(output, target, topk=(1,)):
    """clip_benchmark's, whose last step NumPy does not take any more: it turns an array of one element into a float."""
    correct = output.topk(max(topk), 1, True, True)[1].t().eq(target.view(1, -1))
    return [correct[:k].sum().item() / len(target) for k in topk]


def values_of(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_zero_shot_is_open_clips_and_clip_benchmarks(evaluated, monkeypatch):
    benchmark = pytest.importorskip(
        "clip_benchmark.metrics.zeroshot_classification", reason="pip install --no-deps clip-benchmark==1.6.2"
    )
    monkeypatch.setattr(benchmark, "accuracy", accuracy)
    ours, model, transform, tokenizer, split = evaluated
    samples, pixels = samples_of(split, transform)
    result = ZeroShot("made", split, "kind", CLASSES, TEMPLATES, QUIET).run(ours)
    prompts = {
        label: [template.format(name) for name in names for template in TEMPLATES] for label, names in CLASSES.items()
    }
    target = torch.tensor([list(CLASSES).index(sample.labels["kind"]) for sample in samples])
    loader = Batches([(pixels[:30], target[:30]), (pixels[30:], target[30:])])
    expected = benchmark.evaluate(model, loader, tokenizer, list(CLASSES), prompts, "cpu", amp=False)
    values = values_of(result)
    assert values["acc1"] == expected["acc1"]
    assert values["mean_per_class_recall"] == pytest.approx(expected["mean_per_class_recall"], abs=1e-12)
    assert 0 < values["acc1"] < 1

    classifier = benchmark.zero_shot_classifier(model, tokenizer, list(CLASSES), prompts, "cpu", amp=False)
    logits, _ = benchmark.run_classification(model, classifier, loader, "cpu", amp=False)
    similarities = np.array([record["similarities"] for record in result.records])
    assert np.abs(similarities - logits.numpy() / 100).max() < 1e-6
    assert len(np.unique(logits.argmax(dim=1))) > 1  # not one answer for all
    with torch.no_grad():  # one name a class: what open_clip's own function takes
        classifier = open_clip.build_zero_shot_classifier(
            model, tokenizer, list(CLASSES), [str.upper], num_classes_per_batch=None
        )
        lone = ZeroShot("lone", split, "kind", {label: [label.upper()] for label in CLASSES}, ["{}"], QUIET).run(ours)
        cosines = model.encode_image(pixels, normalize=True) @ classifier
    similarities = np.array([record["similarities"] for record in lone.records])
    assert np.abs(similarities - cosines.numpy()).max() < 1e-6
    assert values_of(lone)["acc1"] == float((cosines.argmax(dim=1) == target).float().mean(dtype=torch.float64))


def test_retrieval_is_clip_benchmarks(evaluated):
    benchmark = pytest.importorskip(
        "clip_benchmark.metrics.zeroshot_retrieval", reason="pip install --no-deps clip-benchmark==1.6.2"
    )
    ours, model, transform, tokenizer, split = evaluated
    samples, pixels = samples_of(split, transform)
    texts = [[sample.texts["caption"]] for sample in samples]
    loader = [(pixels[:30], texts[:30]), (pixels[30:], texts[30:])]
    expected = benchmark.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
    values = values_of(Retrieval("made", split, "caption", (1, 5, 10), QUIET).run(ours))
    for k in (1, 5, 10):
        assert values[f"image_to_text_recall@{k}"] == pytest.approx(expected[f"text_retrieval_recall@{k}"], abs=1e-6)
        assert values[f"text_to_image_recall@{k}"] == pytest.approx(expected[f"image_retrieval_recall@{k}"], abs=1e-6)
    assert 0 < values["image_to_text_recall@10"] < 1
