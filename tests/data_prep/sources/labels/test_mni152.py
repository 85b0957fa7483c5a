import io
import itertools
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.labels.mni152 import FILES, _nilearn_data, block_of, caption, display
from medvlp.shards import Sample

pytest.importorskip("nilearn", reason="needs the template in nilearn's wheel: pip install 'medvlp[offline]'")


@pytest.fixture(scope="module")
def slices():
    source = open_source("mni152", "")
    return {s: [i for u in source.units() if u.split == s for i in source.read(u)] for s in ("train", "valid", "test")}


def samples_of(items):
    return [item for item in items if isinstance(item, Sample)]


def test_counts(slices):
    counts = {split: len(samples_of(items)) for split, items in slices.items()}
    assert counts == {"train": 744, "valid": 96, "test": 105}
    assert sum(map(len, slices.values())) == 3 * (197 + 233 + 189)
    drops = Counter(item.reason for items in slices.values() for item in items if isinstance(item, Dropped))
    assert drops == {"between_blocks": 504, "little_brain": 408}


def test_every_split_sees_every_plane_and_contrast(slices):
    for items in slices.values():
        kinds = Counter((s.labels["plane"], s.labels["contrast"]) for s in samples_of(items))
        assert len(kinds) == 9
        assert min(kinds.values()) >= 8


def test_splits_keep_their_distance(slices):
    """Slices of one axis in different splits are at least 4 mm apart, also from their mirror image."""
    positions = {
        split: {(s.labels["plane"], s.labels["millimetres"]) for s in samples_of(items)}
        for split, items in slices.items()
    }
    for first, second in itertools.combinations(positions, 2):
        for (plane, a), (other, b) in itertools.product(positions[first], positions[second]):
            if plane == other:
                assert abs(a - b) > 3, (first, second, plane, a, b)
                assert plane != "sagittal" or abs(abs(a) - abs(b)) > 3


def test_blocks():
    kinds = [block_of(p) for p in range(98)]
    assert [kind for kind, _ in kinds[:20]] == ["train"] * 14 + ["margin"] * 3 + ["valid"] * 3
    assert Counter(kind for kind, _ in kinds) == {"train": 56, "margin": 24, "valid": 8, "test": 10}
    assert len(set(kinds)) == 16


def test_slices_lie_as_radiologists_look_at_them():
    volume = np.zeros((3, 4, 5), np.uint8)  # RAS
    volume[2, 3, 4] = 1  # right, front, top
    assert np.argwhere(display(volume[:, :, 4], "axial")).tolist() == [[0, 0]]  # top left: front, right side
    assert display(volume[:, :, 4], "axial").shape == (4, 3)
    assert np.argwhere(display(volume[:, 3, :], "coronal")).tolist() == [[0, 0]]  # top left: top, right side
    assert np.argwhere(display(volume[2, :, :], "sagittal")).tolist() == [[0, 0]]  # top left: top, front


def test_a_sample(slices):
    (sample,) = [s for s in samples_of(slices["train"]) if s.key == "mni152__T1__axial__098"]
    assert sample.labels["plane"] == "axial"
    assert sample.labels["millimetres"] == 26
    assert 0 < sample.labels["grey_matter_share"] < sample.labels["white_matter_share"] < 1
    image = Image.open(io.BytesIO(sample.images["png"]))
    assert image.size == (197, 233)
    assert sample.metadata["licence"] == "LicenseRef-MNI-ICBM152"


def test_captions_are_true_and_varied(slices):
    train = samples_of(slices["train"])
    for sample in train:
        text, labels = sample.texts["caption"].lower(), sample.labels
        assert labels["plane"] in text
        assert (labels["contrast"].lower() in text) or labels["contrast"] == "T1"
        assert ("t1" in text) == (labels["contrast"] == "T1")
        assert f"{'xyz'[('sagittal', 'coronal', 'axial').index(labels['plane'])]} = {labels['millimetres']} mm" in text
        assert f"{labels['grey_matter_share']:.0%}" in text
        if labels["plane"] == "sagittal" and abs(labels["millimetres"]) > 3:
            assert ("right hemisphere" in text) == (labels["millimetres"] > 0)
    assert len({s.texts["caption"] for s in train}) == len(train)


def test_caption_places():
    for words, plane, position, millimetres in [
        ("lower third", "axial", 0.0, -72),
        ("upper third", "axial", 1.0, 80),
        ("posterior third", "coronal", 0.33, -50),
        ("midline", "sagittal", 0.5, -3),
        ("lateral left hemisphere", "sagittal", 0.1, -50),
        ("medial right hemisphere", "sagittal", 0.6, 12),
    ]:
        assert words in caption("key", "T1", plane, position, millimetres, 0.5, 0.4)


def test_a_folder_without_the_template(tmp_path):
    with pytest.raises(PrepError, match="leave input out to use nilearn's copy"):
        open_source("mni152", str(tmp_path))


def test_nilearn_is_not_imported():
    code = (
        "import sys; from data_prep.sources import open_source; open_source('mni152', '').units();"
        "print('nilearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("damage", [lambda data: data[:-3000], lambda data: data[:9000] + b"x" * 99 + data[9099:]])
def test_a_damaged_volume_is_named(tmp_path, damage):
    for name in FILES.values():
        shutil.copy(_nilearn_data() / name, tmp_path / name)
    broken = tmp_path / FILES["grey matter"]
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(PrepError, match=f"{broken.name} cannot be read .*; reinstall nilearn"):
        open_source("mni152", str(tmp_path)).units()


def test_the_kind_of_group(slices):
    assert {sample.metadata["group_kind"] for sample in samples_of(slices["valid"])} == {"block"}
