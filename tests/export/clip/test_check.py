"""What the gate of exported CLIPs compares, and what it says of a folder that differs."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

from medvlp.export.clip.check import Tolerances, check_embeddings, shifted_pixels, unpadded
from medvlp.export.clip.provenance import Pairs
from medvlp.export.clip.tokenizers import CLEANING, stock_tokenizer
from medvlp.export.equality import ExportMismatch, probe_image
from medvlp.models.clip.model import ClipEncoder
from medvlp.models.clip.text_tower import clip_tokenizer

TOLERANCES = Tolerances(1e-5, may_shift=True)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (301, 224, 3), np.uint8))


def scratch_of(folder: Path) -> Path:
    """A new folder in it."""
    return Path(tempfile.mkdtemp(dir=folder))


@pytest.fixture(scope="module")
def clip(build):
    return build("checked")


@pytest.fixture
def answered(clip, monkeypatch, tmp_path):
    """The check of a folder that answers as the CLIP does, but for what a test changes."""
    # 224 x 301 px become 32 x 43: 11 pixels are cut off, and half of them is rounded up to 6, or down to 5
    pairs = Pairs([probe_image(0, 64), NOISE], ["a chest", "<b>5 &amp; 7</b> chest"], "two")
    encoder = ClipEncoder(clip, identity="0")

    def check(change=lambda answers: None, may_shift=True):
        def run(library, script, folder, scratch, **environment):
            texts = json.loads((scratch / "questions.json").read_text())
            images = [Image.open(path) for path in sorted((scratch / "images").iterdir())]
            pixels = torch.stack([clip.transform(image) for image in images])
            answers = {
                "pixels": pixels,
                "images": encoder.encode_image(pixels),
                "default": encoder.encode_image(pixels),
                "texts": encoder.encode_text(texts["texts"]),
                "ids": clip.tokenizer(texts["texts"]),
                "raw_ids": clip.tokenizer(texts["texts"]),  # as of texts that nobody cleaned but a browser
            }
            change(answers)
            np.savez(scratch / "answers.npz", **{name: tensor.numpy() for name, tensor in answers.items()})

        monkeypatch.setattr("medvlp.export.clip.check.run_script", run)
        return check_embeddings(Path(), scratch_of(tmp_path), clip, pairs, "", "a library", Tolerances(1e-5, may_shift))

    return check


def test_equal_folders_pass(answered):
    check = answered()
    assert (check.largest, check.shifted, check.uncleaned) == (0, 0, 0)
    assert check.default_cosine == pytest.approx(1, abs=1e-6)


def test_a_crop_that_begins_a_pixel_earlier_is_counted_and_measured(answered, clip):
    pixels, shifted = clip.transform(NOISE), shifted_pixels(clip, NOISE)
    assert torch.equal(pixels[:, :-1], shifted[:, 1:])  # ours begins at row 6, theirs at row 5
    encoder = ClipEncoder(clip, identity="0")
    vector, shifted_vector = encoder.encode_image(torch.stack([pixels, shifted]))

    def shift(answers):
        answers["pixels"][1], answers["images"][1] = shifted, shifted_vector

    check = answered(shift)
    assert check.shifted == 1
    assert check.shifted_cosine == pytest.approx(float(vector @ shifted_vector), abs=1e-6)
    assert "the crop of 1 of the 2 images begins a pixel earlier" in " ".join(check.sentences(TOLERANCES, "it"))
    with pytest.raises(ExportMismatch, match="makes other pixels of image 1"):
        answered(shift, may_shift=False)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("pixels", lambda tensor: tensor[0].add_(0.01), "makes other pixels of image 0"),
        ("images", lambda tensor: tensor[1, 0].add_(1e-3), "other embeddings of images in a library, by up to 1.0e-03"),
        ("texts", lambda tensor: tensor[0, 3].sub_(2e-5), "other embeddings of texts in a library, by up to 2.0e-05"),
        (
            "texts",
            lambda tensor: tensor[0, 0].fill_(float("nan")),
            "other embeddings of texts in a library, by up to nan",
        ),
        ("ids", lambda tensor: tensor[1, 1].add_(1), "makes other tokens of '<b>5 & 7</b> chest' in a library"),
    ],
)
def test_whatever_differs_is_named(answered, name, change, words):
    with pytest.raises(ExportMismatch, match=words):
        answered(lambda answers: change(answers[name]))


def test_texts_that_a_tokenizer_does_not_clean_are_counted(answered):
    assert answered(lambda answers: answers["raw_ids"][1, 1].add_(1)).uncleaned == 1


def test_padding_of_either_kind_is_cut_off():
    assert unpadded(torch.tensor([[5, 0, 6, 0, 0], [5, 0, 6, -1, -1], [0, 0, 0, 0, 0]]), 0) == [
        [5, 0, 6],
        [5, 0, 6],
        [0],
    ]


@pytest.mark.parametrize("cleaning", CLEANING)
@pytest.mark.parametrize("is_published", [False, True])
def test_tokenizers_give_open_clips_ids(build, cleaning, is_published, tmp_path):
    """Byte pairs of open_clip's own and words of a text tower's, after each of open_clip's cleanings."""
    texts = ["A  Chest-x_ray:\n\t(left), it's 5 µm", "b\u00a0c", "finding " * 40, "CHEST", "Größe é 12.5", "a"]
    texts += ["the “hot spot” at the ankle’s edge", "a ﬁbrous, ﬂat diﬀuse oﬃce"]
    clip = build(f"{cleaning}_{is_published}", text="bert cls_pooler linear" if is_published else None)
    text_cfg = {**clip.model_cfg["text_cfg"], "tokenizer_kwargs": {"clean": cleaning}}
    clip = replace(
        clip,
        model_cfg={**clip.model_cfg, "text_cfg": text_cfg},
        tokenizer=clip_tokenizer(text_cfg, clip.text_files),
    )
    stock_tokenizer(clip).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(texts, truncation=True, max_length=tokenizer.model_max_length)["input_ids"]
    assert ids == unpadded(clip.tokenizer(texts), clip.padding[0])
