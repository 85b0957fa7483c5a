"""Both towers of a CLIP as ONNX graphs, with what makes pixels and tokens, for onnxruntime without torch.

B: batch; L: tokens; S: image side; E: shared width.
"""

import importlib.util
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.errors import UserError
from medvlp.export.clip.check import EmbeddingCheck, Tolerances, check_embeddings
from medvlp.export.clip.provenance import Provenance, check_pairs
from medvlp.export.clip.tokenizers import stock_tokenizer
from medvlp.export.folder import whole_folder
from medvlp.models.clip.model import Clip
from medvlp.models.clip.text_lengths import encode_trimmed, is_trimmable

TOLERANCES = Tolerances(1e-4, may_shift=False)
"""onnxruntime's kernels sum in another order than torch's."""
IMAGE, TEXT, SETTINGS = "vision_model.onnx", "text_model.onnx", "preprocess.json"
OPSET = 18
LARGEST = 2**31 - 2**27
"""Bytes of weights inside a graph; protobuf holds 2 GiB."""
EXTRA = "pip install 'medvlp[onnx]'"
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


class MissingLibrary(UserError):
    """The extra `onnx` is not installed."""


class ImageTower(nn.Module):
    """pixels (B, 3, S, S) → unit vectors (B, E)."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.model: Any = clip.model

    def forward(self, pixel_values: Tensor) -> Tensor:
        """As ONNX's graph has it."""
        return normalize(self.model.encode_image(pixel_values), dim=-1)


class TextTower(nn.Module):
    """Tokens (B, L), padded behind → unit vectors (B, E)."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.model: Any = clip.model
        self.any_length = takes_any_length(clip)

    def forward(self, input_ids: Tensor) -> Tensor:
        """As ONNX's graph has it."""
        encode = encode_trimmed if self.any_length else type(self.model).encode_text
        return normalize(encode(self.model, input_ids), dim=-1)


def export_onnx(clip: Clip, source: Provenance, output: Path) -> EmbeddingCheck:
    """Write the folder; open it in a new process with onnxruntime, without torch, and compare embeddings.

    Raises:
        MissingLibrary: the extra is not installed.
        ExportMismatch: the folder computes something else; nothing is kept.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingLibrary(f"format=onnx needs {', '.join(missing)}, which is not installed: {EXTRA}")
    with whole_folder(output) as (folder, scratch):
        write_onnx(clip, folder)
        check = check_embeddings(
            folder, scratch, clip, check_pairs(source), RELOAD.format(use=USE), "onnxruntime", TOLERANCES
        )
        (folder / "README.md").write_text(readme(clip, source, check), encoding="utf-8")
    return check


def write_onnx(clip: Clip, folder: Path) -> None:
    """vision_model.onnx, text_model.onnx, preprocess.json and tokenizer.json.

    folder: exists and is empty.
    """
    any_length = takes_any_length(clip)
    context = int(clip.model_cfg["text_cfg"].get("context_length") or 77)
    pixels_BCHW = torch.randn(2, 3, clip.size, clip.size, generator=torch.Generator().manual_seed(0))
    ids_BL = clip.tokenizer(["a chest radiograph", "a brain MRI with a lesion"])
    batch = torch.export.Dim("batch", min=1)
    lengths = {1: torch.export.Dim("sequence", min=2, max=context)} if any_length else {}
    write_graph(ImageTower(clip), pixels_BCHW, {0: batch}, "pixel_values", "image_embeds", folder / IMAGE)
    write_graph(TextTower(clip), ids_BL, {0: batch, **lengths}, "input_ids", "text_embeds", folder / TEXT)
    settings = {
        **clip.preprocess,
        "size": clip.size,
        "context_length": context,
        "pad_id": clip.padding[0],
        "pads_to_context": not any_length,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    stock_tokenizer(clip).backend_tokenizer.save(str(folder / "tokenizer.json"))


def takes_any_length(clip: Clip) -> bool:
    """Whether the text tower takes texts that are shorter than its context: it masks padding, or never looks behind a text."""
    text: Any = getattr(clip.model, "text", clip.model)
    return hasattr(text, "config") or is_trimmable(text)


def write_graph(
    tower: nn.Module, example: Tensor, dimensions: dict[int, Any], argument: str, result: str, path: Path
) -> None:
    """One tower's graph, its weights inside it or, of more than 2 GB, next to it; checked by onnx.

    dimensions: those of the argument that may have other sizes than the example's.
    """
    import onnx

    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                tower.eval(),
                (example,),
                path,
                input_names=[argument],
                output_names=[result],
                dynamic_shapes=(dimensions,),
                opset_version=OPSET,
                dynamo=True,
                external_data=sum(tensor.nbytes for tensor in tower.state_dict().values()) > LARGEST,
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    onnx.checker.check_model(str(path))


def summary(output: Path, check: EmbeddingCheck) -> str:
    """How the folder is opened, and what was compared, for the terminal."""
    return (
        f"{output}: {IMAGE} and {TEXT}; its README.md has the lines that run them with onnxruntime, tokenizers and Pillow\n"
        f"compared in a new process without torch, by {check.pairs.description}: largest difference of an embedding's element "
        f"{check.largest:.1e}"
    )


def readme(clip: Clip, source: Provenance, check: EmbeddingCheck) -> str:
    """The model card."""
    length = "any number of tokens up to the context" if takes_any_length(clip) else "texts padded to the context"
    header = [
        "---",
        "library_name: onnx",
        "pipeline_tag: zero-shot-image-classification",
        "license: other",
        "license_name: see-the-card",
        "tags: [medical, clip, contrastive, onnx, medvlp]",
        "---",
        "",
    ]
    texts = [
        "# A medical CLIP model, as ONNX",
        "Research use only; not for clinical use. It embeds images and texts in one space. Exported with medvlp.",
        source.parts(clip),
        source.sections(),
        "## Use",
        f"`{IMAGE}` takes `pixel_values` (batch, 3, {clip.size}, {clip.size}) and gives `image_embeds`. `{TEXT}` takes "
        f"`input_ids` (batch, tokens), {length}, and gives `text_embeds`. Both give unit vectors, of any batch. It needs "
        "onnxruntime, tokenizers, Pillow and NumPy.",
        f"```python\n{OPEN}{USE}{EXAMPLE}```",
        "## Checked",
        *check.sentences(TOLERANCES, "onnxruntime, tokenizers and Pillow"),
    ]
    return "\n".join(header) + "\n\n".join(text.rstrip("\n") for text in texts) + "\n"


OPEN = """\
import json

import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

folder = "<path of this folder>"
"""
USE = """\
settings = json.load(open(f"{folder}/preprocess.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_truncation(settings["context_length"])
vision = onnxruntime.InferenceSession(f"{folder}/vision_model.onnx", providers=["CPUExecutionProvider"])
text = onnxruntime.InferenceSession(f"{folder}/text_model.onnx", providers=["CPUExecutionProvider"])
filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def pixels_of(image):
    size, mode = settings["size"], settings["resize_mode"] or "shortest"
    resampling = filters.get(settings["interpolation"], Image.Resampling.BICUBIC)
    width, height = image.size
    if mode == "squash":
        image = image.resize((size, size), resampling)
    elif mode == "shortest":
        short, long = min(width, height), int(size * max(width, height) / min(width, height))
        if short != size:
            image = image.resize((size, long) if width <= height else (long, size), resampling)
    else:  # longest: padded to a square
        scale = max(width, height) / size
        image = image.resize((round(width / scale), round(height / scale)), resampling)
    ground = Image.new("RGB", (size, size), (settings["fill_color"],) * 3)
    left, top = (round((side - size) / 2) for side in image.size)  # of half a pixel, to the even number
    if mode == "longest":
        left, top = (-((size - side) // 2) for side in image.size)
    ground.paste(image.convert("RGB"), (-left, -top))
    pixels = np.asarray(ground, np.float32) / 255
    return ((pixels - np.float32(settings["mean"])) / np.float32(settings["std"])).transpose(2, 0, 1)


def ids_of(texts):
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    length = settings["context_length"] if settings["pads_to_context"] else max(map(len, rows))
    return np.array([row + [settings["pad_id"]] * (length - len(row)) for row in rows], np.int64)


def embed_images(images):
    (vectors,) = vision.run(None, {"pixel_values": np.stack([pixels_of(image) for image in images])})
    return vectors


def embed_texts(texts):
    (vectors,) = text.run(None, {"input_ids": ids_of(texts)})
    return vectors
"""
EXAMPLE = """\

image = Image.new("RGB", (512, 512))  # or Image.open("chest.png")
print(embed_images([image]) @ embed_texts(["a chest radiograph", "a brain MRI"]).T)
"""
RELOAD = """
import sys
from pathlib import Path
import json
import numpy as np
import onnxruntime
from PIL import Image
from tokenizers import Tokenizer

folder, scratch = sys.argv[1:]
{use}
questions = json.loads(Path(scratch, "questions.json").read_text("utf-8"))
images = [Image.open(path) for path in sorted(Path(scratch, "images").iterdir())]
answers = {{"images": embed_images(images), "texts": embed_texts(questions["texts"])}}
singles = {{
    "images": np.concatenate([embed_images([image]) for image in images[:3]]),
    "texts": np.concatenate([embed_texts([text]) for text in questions["texts"][:3]]),
}}
for name, vectors in singles.items():
    assert np.abs(answers[name][:3] - vectors).max() < 1e-4, f"one by one, other embeddings of {{name}}"
assert not any(name.split(".")[0] in ("medvlp", "open_clip", "torch", "transformers") for name in sys.modules)
np.savez(
    Path(scratch, "answers.npz"), pixels=np.stack([pixels_of(image) for image in images]), **answers,
    ids=ids_of(questions["texts"]), raw_ids=ids_of(questions["raw"]),
)
"""
