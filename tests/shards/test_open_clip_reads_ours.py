"""open_clip's own loader reads our tars: every image and caption, as they are."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.datasets import pairs, write_split

pytestmark = pytest.mark.slow
SCRIPT = """
import argparse, hashlib, sys
import torch
from open_clip_train.data import get_wds_dataset
folder, is_train = sys.argv[1], sys.argv[2] == "train"
tars = folder + "/{000000..000004}.tar"
args = argparse.Namespace(
    train_data=tars, val_data=tars, train_num_samples=40, val_num_samples=40, dataset_resampled=False,
    train_data_upsampling_factors=None, seed=0, batch_size=4, workers=1, world_size=1,
)
def digest(data):
    return int(hashlib.sha256(data).hexdigest()[:12], 16)
info = get_wds_dataset(
    args, lambda image: torch.tensor(digest(image.tobytes())), is_train, tokenizer=lambda text: [digest(text.encode())]
)
for images, texts in info.dataloader:
    for image, text in zip(images.tolist(), list(texts)):
        print(image, int(text))
"""


def expected(samples):
    """(digest of the pixels, digest of the caption)"""
    import hashlib
    import io

    from PIL import Image

    def digest(data):
        return int(hashlib.sha256(data).hexdigest()[:12], 16)

    pixels = [Image.open(io.BytesIO(sample.images["jpg"])).convert("RGB").tobytes() for sample in samples]
    return {
        f"{digest(data)} {digest(sample.texts['caption'].encode())}"
        for data, sample in zip(pixels, samples, strict=True)
    }


def lines_of(folder, mode, path=""):
    environment = {"PYTHONPATH": f"{path}:{REPOSITORY}", "PATH": "", "HOME": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), mode], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()


def test_for_validation_with_the_installed_webdataset(tmp_path):
    samples = pairs(40)
    write_split(tmp_path / "train", samples)
    lines = lines_of(tmp_path / "train", "valid")
    assert len(lines) == 40
    assert set(lines) == expected(samples)


def test_for_training_with_the_webdataset_that_it_needs(tmp_path):
    target = tmp_path / "peer"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), "webdataset==0.2.86"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no package index")
    samples = pairs(40)
    write_split(tmp_path / "train", samples)
    lines = lines_of(tmp_path / "train", "train", str(target))
    assert len(lines) == 40
    assert set(lines) == expected(samples)
