"""A dataset of plain colours and an encoder that sees nothing but colour, so that every similarity is known."""

import hashlib
import io
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from PIL import Image

from medvlp.shards import BadSample

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "grey": (90, 90, 90)}


def png(colour, size=(4, 4)):
    data = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(data, "png")
    return data.getvalue()


@dataclass
class FakeSample:
    key: str
    images: dict
    texts: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)


class FakeDataset:
    """What evaluation asks of a shard folder, from a list of samples; an exception stands for an unreadable one."""

    def __init__(self, samples, folder="data/colours/test", manifest_hash=None, split="test"):
        self.samples, self.folder = samples, folder
        self.manifest_hash = manifest_hash or hashlib.sha256(repr(samples).encode()).hexdigest()
        self.manifest = SimpleNamespace(split=split)
        self.reads = 0

    def __len__(self):
        return len(self.samples)

    def key(self, row):
        return f"bad{row}" if isinstance(self.samples[row], BadSample) else self.samples[row].key

    def column(self, name):
        if name == "key":
            return [self.key(row) for row in range(len(self))]
        assert name == "sha256"
        images = [getattr(sample, "images", {}) for sample in self.samples]
        return [hashlib.sha256(members[min(members)]).hexdigest() if members else "" for members in images]

    @property
    def keys(self):
        return self.column("key")

    def read(self, row):
        self.reads += 1
        return self.read_text(row)

    def read_text(self, row):
        if isinstance(self.samples[row], BadSample):
            raise self.samples[row]
        return self.samples[row]


class ColourEncoder:
    """Mean colour as the embedding; a text's is the sum of the colours that it names."""

    transform_identity = "pixels in [0, 1]"
    execution = "cpu float32"

    def __init__(self, identity="colour-encoder"):
        self.identity = identity
        self.encoded_texts = []
        self.encoded_images = 0

    def transform(self, image):
        return torch.tensor(list(image.getdata()), dtype=torch.float32).T.reshape(3, *image.size[::-1]) / 255

    def encode_image(self, pixels_BCHW):
        self.encoded_images += len(pixels_BCHW)
        return torch.nn.functional.normalize(pixels_BCHW.mean(dim=(2, 3)), dim=1)

    def encode_text(self, texts):
        self.encoded_texts += texts
        sums = [sum(torch.tensor(COLOURS[c]) for c in COLOURS if c in text) + torch.zeros(3) for text in texts]
        return torch.nn.functional.normalize(torch.stack(sums), dim=1)


def sample(key, colour, group=None, caption=None, kind=None, **labels):
    texts = {} if caption is None else {"caption": caption}
    metadata = {name: value for name, value in (("group", group), ("group_kind", kind)) if value}
    return FakeSample(key, {"png": png(colour)}, texts, labels, metadata)
