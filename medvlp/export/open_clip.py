"""A CLIP model as a folder that stock open_clip opens on another machine, offline."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from medvlp.export.equality import ExportMismatch, run_offline
from medvlp.export.folder import whole_folder
from medvlp.models.clip.model import Clip
from medvlp.models.clip.text_tower import CONFIG, write_files

TOLERANCE = 1e-5
"""Largest difference allowed between a unit embedding of ours and of the reloaded folder, an element."""

PROBES = (
    "a chest radiograph with a small pleural effusion on the left",
    "MRT des Kopfes: T2, axial; 5 µm",
    "long " * 400,
)

ANYWHERE_IMPORTS = """\
import json
from pathlib import Path

import open_clip

folder = "<path of this folder>"
"""
PLAIN = """\
model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
"""
ANYWHERE = """\
text = json.loads(Path(folder, "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
model, _, transform = open_clip.create_model_and_transforms(
    f"local-dir:{folder}", text_cfg={**text, "hf_model_name": folder}
)
"""
TOKENIZER = """\
tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
"""
"""How a folder is opened, as its README says it and as it is tried before it is kept."""


def export_clip(clip: Clip, weights_sha256: str, output: Path, sections: str = "", is_ours: bool = True) -> float:
    """Write the folder; reload it in a new process, moved and offline, and compare embeddings.

    sections: of its README, on where it comes from. is_ours: whether it was trained here.
    Returns: the largest difference of an embedding's element.
    Raises:
        ExportMismatch: the reloaded model differs; nothing is kept.
    """
    with whole_folder(output) as (folder, scratch):
        write_folder(clip, folder, weights_sha256, sections, is_ours)
        questions = probe(clip)
        return largest_difference(questions["embeddings"], reloaded_embeddings(folder, scratch, questions))


def summary(output: Path, difference: float) -> str:
    """How the folder is opened, and what was compared, for the terminal."""
    return (
        f"{output}: {how_to_open(output)}\n"
        f"largest difference of an embedding's element, in a new process with stock open_clip, moved and offline: "
        f"{difference:.1e}"
    )


def write_folder(clip: Clip, folder: Path, weights_sha256: str, sections: str = "", is_ours: bool = True) -> None:
    """Write open_clip_config.json, open_clip_model.safetensors and README.md, and a text tower's configuration and
    tokenizer where these are transformers'.

    open_clip looks a text tower's configuration up from the working folder, not from the model's. Its name here is
    `./<folder>`, which is this folder where one stands above it, and a folder inside it where one stands in it.

    Args:
        folder: exists, is empty, and has its final name.
    """
    model_cfg = json.loads(json.dumps(clip.model_cfg))
    write_files(clip.text_files, folder)
    name = f"./{folder.name}"
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if model_cfg["text_cfg"].get(key):
            model_cfg["text_cfg"][key] = name
    if has_own_tower(clip):
        model_cfg["text_cfg"]["hf_model_pretrained"] = False  # its weights are among those of the CLIP
        nested = folder / folder.name
        nested.mkdir()
        (nested / CONFIG).write_text(clip.text_files[CONFIG], encoding="utf-8")
    description = {"model_cfg": model_cfg, "preprocess_cfg": clip.preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in clip.model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors")
    (folder / "open_clip_model.safetensors").chmod((folder / "open_clip_config.json").stat().st_mode)
    (folder / "README.md").write_text(readme(clip, folder.name, weights_sha256, sections, is_ours), encoding="utf-8")


def has_own_tower(clip: Clip) -> bool:
    """Whether the text tower is transformers', so that its configuration has to be found."""
    return bool(clip.model_cfg["text_cfg"].get("hf_model_name"))


def probe(clip: Clip) -> dict[str, Any]:
    """{"pixels": (1, 3, H, W), "texts", "embeddings": unit vectors of both, (1 + texts, D)}."""
    size = clip.preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    pixels = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    model: Any = clip.model
    with torch.no_grad():
        image_BD = model.encode_image(pixels, normalize=True)
        text_BD = model.encode_text(clip.tokenizer(list(PROBES)), normalize=True)
    return {"pixels": pixels, "texts": list(PROBES), "embeddings": torch.cat([image_BD, text_BD])}


def reloaded_embeddings(folder: Path, scratch: Path, probe: dict[str, Any]) -> dict[str, Tensor]:
    """Embeddings of the folder opened in each way that its README says, in a new process, offline, with an empty cache.

    Args:
        scratch: a folder for the questions and the answers.
    Raises:
        ExportMismatch: it cannot be opened.
    """
    torch.save({"pixels": probe["pixels"], "texts": probe["texts"]}, scratch / "probe.pt")
    script = RELOAD.format(anywhere=indented(ANYWHERE), plain=indented(PLAIN), tokenizer=indented(TOKENIZER))
    with tempfile.TemporaryDirectory() as empty:
        caches = {"HF_HOME": empty, "HF_HUB_CACHE": empty}
        answers: dict[str, Tensor] = run_offline("open_clip", script, folder, scratch, cwd=empty, **caches)
    return answers


def largest_difference(expected: Tensor, reloaded: dict[str, Tensor]) -> float:
    """Of an element, over the ways in which the folder was opened.

    Raises:
        ExportMismatch: more than rounding.
    """
    difference = max(float((embeddings - expected).abs().max()) for embeddings in reloaded.values())
    if not difference <= TOLERANCE:
        raise ExportMismatch(f"the exported folder gives other embeddings in open_clip, by {difference:.1e}")
    return difference


def indented(code: str) -> str:
    """Lines of code as the body of a function."""
    return "".join(f"    {line}\n" for line in code.splitlines())


RELOAD = """
import json, os, sys
from pathlib import Path
import open_clip, torch

exported, scratch = map(Path, sys.argv[1:])
probe = torch.load(scratch / "probe.pt", weights_only=True)

def anywhere(folder):
{anywhere}{tokenizer}    return model, tokenizer

def plain(folder):
{plain}{tokenizer}    return model, tokenizer

answers = {{}}
own_tower = "hf_model_name" in json.loads((exported / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
ways = [
    ("elsewhere", os.getcwd(), str(exported), anywhere if own_tower else plain),
    ("above", exported.parent, exported.name, plain),
    ("inside", exported, ".", plain),
]
for name, cwd, folder, open_model in ways[: 3 if own_tower else 1]:
    os.chdir(cwd)
    model, tokenizer = open_model(folder)
    with torch.no_grad():
        image = model.eval().encode_image(probe["pixels"], normalize=True)
        answers[name] = torch.cat([image, model.encode_text(tokenizer(probe["texts"]), normalize=True)])
assert not any(name.split(".")[0] == "medvlp" for name in sys.modules)
torch.save(answers, scratch / "answers.pt")
"""


def how_to_open(output: Path) -> str:
    """A line for the terminal."""
    config = json.loads((output / "open_clip_config.json").read_text("utf-8"))
    line = f"opens as open_clip.create_model_and_transforms('local-dir:{output.name}')"
    if not config["model_cfg"]["text_cfg"].get("hf_model_name"):
        return line.replace(output.name, str(output))
    return f"{line} in {output.resolve().parent}; its README.md says how from elsewhere"


def readme(clip: Clip, name: str, weights_sha256: str, sections: str = "", is_ours: bool = True) -> str:
    """The model card of an exported folder."""
    texts = [f"# A CLIP model{' trained with medvlp' if is_ours else ''}", "Research use only; not for clinical use."]
    texts += [sections.rstrip("\n"), "## Use"] if sections else []
    texts += [f"Weights sha256 (names, types, shapes, bytes): `{weights_sha256}`"]
    if has_own_tower(clip):
        texts += [
            "It needs open_clip and transformers, and no network. From anywhere:",
            code(f"{ANYWHERE_IMPORTS}{ANYWHERE}{TOKENIZER}"),
            "open_clip looks a text tower's configuration (`config.json`) up by the name in `open_clip_config.json`, from the "
            f"working folder. That name is `./{name}`, so in the folder above this one, while it is called `{name}`, a plain",
            code(f'import open_clip\n\nfolder = "{name}"\n{PLAIN}{TOKENIZER}'),
            'does as well, and inside this folder the same with `folder = "."`. On a hub, put the repository\'s name in its '
            "place.",
        ]
    else:
        texts += [code(f'import open_clip\n\nfolder = "<path of this folder>"\n{PLAIN}{TOKENIZER}')]
    return "\n\n".join(texts) + "\n"


def code(text: str) -> str:
    """A block of Markdown."""
    return f"```python\n{text}```"
