"""A classifier as a folder: its tower as stock transformers opens it, its heads next to it. Kept only if a new process without
medvlp computes the same logits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from medvlp.config import ClassifierConfig, TrainConfig
from medvlp.export.equality import ExportMismatch, probe_image, run_offline
from medvlp.export.folder import whole_folder
from medvlp.export.model_card import Lineage, cell, data_table, lineage, origin
from medvlp.models.classifier.model import Classifier

TOLERANCE = 1e-4
"""Largest difference allowed between a logit of ours and of the reloaded folder, in single precision."""
PICTURES = 2
"""Generated pictures that are classified for the comparison."""
HEADS, WEIGHTS = "heads.json", "heads.safetensors"

POOLING = {
    ("timm_wrapper", ""): "tower.timm_model.forward_head(tower(pixels).last_hidden_state)",
    ("timm_wrapper", "mean"): "tower(pixels).last_hidden_state.mean((2, 3))",
    ("clip_vision_model", "token"): "tower(pixels).pooler_output",
    ("clip_vision_model", "mean"): "tower.post_layernorm(tower(pixels).last_hidden_state[:, 1:]).mean(1)",
    ("vit", "token"): "tower(pixels).last_hidden_state[:, 0]",
    ("vit", "mean"): "tower(pixels).last_hidden_state[:, 1:].mean(1)",
    ("siglip_vision_model", "mean"): "tower(pixels).last_hidden_state.mean(1)",
}
"""Model type of the tower, and how it is pooled → that in transformers' words."""
DEFAULT_POOL = {"clip_vision_model": "token", "vit": "token", "siglip_vision_model": "mean"}
"""Model type of a tower → its pooling where none is chosen."""

OPEN = """\
import json

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

folder = "<path of this folder>"
"""
USE = """\
tower = AutoModel.from_pretrained(folder, trust_remote_code=False).eval()
processor = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
heads = json.load(open(f"{{folder}}/heads.json", encoding="utf-8"))
layers = load_file(f"{{folder}}/heads.safetensors")


def classify(images):
    pixels = processor(images, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        features = {pooling}
    return {{name: features @ layers[f"{{name}}.weight"].T + layers[f"{{name}}.bias"] for name in heads}}
"""
EXAMPLE = """\

image = Image.new("RGB", (512, 512))  # or Image.open("chest.png").convert("RGB")
for name, logits in classify([image]).items():
    scores = logits[0].sigmoid() if heads[name]["multi_label"] else logits[0].softmax(0)
    print(name, dict(zip(heads[name]["classes"], scores.tolist())))
"""


def export_classifier(
    classifier: Classifier, config: TrainConfig, weights_sha256: str, output: Path, selected: Mapping[str, Any]
) -> float:
    """Write the folder; reload it in a new process, and compare the logits of generated pictures.

    config: what the classifier was trained with. selected: source → what conditions selected of it.

    Returns: the largest difference of a logit.
    Raises:
        ExportMismatch: the reloaded folder differs; nothing is kept.
    """
    pictures = [probe_image(number) for number in range(PICTURES)]
    pixels = classifier.processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = classifier.model(pixels)
    with whole_folder(output) as (folder, scratch):
        write_folder(classifier, folder)
        for number, picture in enumerate(pictures):
            picture.save(scratch / f"{number}.png")
        script = RELOAD.format(use=use(classifier), pictures=PICTURES)
        answers: dict[str, Tensor] = run_offline(
            "transformers", script, folder, scratch, TRANSFORMERS_VERBOSITY="error"
        )
        difference = max(float((answers[name] - logits).abs().max()) for name, logits in expected.items())
        if not difference <= TOLERANCE:
            raise ExportMismatch(f"the exported folder gives other logits, by up to {difference:.1e}")
        card = readme(classifier, lineage(config, selected), weights_sha256, difference)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return difference


def write_folder(classifier: Classifier, folder: Path) -> None:
    """config.json, model.safetensors and preprocessor_config.json of the tower; heads.json and heads.safetensors."""
    model = classifier.model
    model.vision.save_pretrained(folder)
    classifier.processor.save_pretrained(folder)
    tensors, start = {}, 0
    for name, classes in model.classes.items():
        rows = slice(start, start + classes)
        tensors[f"{name}.weight"] = model.head.weight.detach()[rows].contiguous()
        tensors[f"{name}.bias"] = model.head.bias.detach()[rows].contiguous()
        start += classes
    save_file(tensors, folder / WEIGHTS)
    heads = {
        name: {"classes": head["classes"], "multi_label": bool(head.get("multi_label"))}
        for name, head in classifier.heads.items()
    }
    text = json.dumps(heads, indent=2, ensure_ascii=False) + "\n"
    (folder / HEADS).write_text(text, encoding="utf-8")
    for name in (WEIGHTS, "model.safetensors"):
        (folder / name).chmod((folder / HEADS).stat().st_mode)


def use(classifier: Classifier) -> str:
    """The lines that open and run the folder, as its README has them and as it is tried before it is kept."""
    kind = classifier.model.vision.config.model_type
    pool = classifier.model.pool or DEFAULT_POOL.get(kind, "")
    return USE.format(pooling=POOLING[kind, pool])


def summary(output: Path, difference: float) -> str:
    """How the folder is opened, and what was compared, for the terminal."""
    return (
        f"{output}: its README.md has the lines that open it with transformers and safetensors\n"
        f"largest difference of a logit, in a new process without medvlp: {difference:.1e}"
    )


def readme(classifier: Classifier, lineage: Lineage, weights_sha256: str, difference: float) -> str:
    """The model card."""
    config = lineage.runs[0]
    assert isinstance(config.model, ClassifierConfig)
    rows = [("Image tower", origin(config.model.vision.source)), ("Input", f"{classifier.size} px")]
    for name, head in classifier.heads.items():
        kind = "several labels" if head.get("multi_label") else "one label"
        rows.append((f"Head {name}", f"{kind}: {', '.join(head['classes'])}"))
    rows.append(("Weights sha256", f"{weights_sha256} (of the checkpoint: names, types, shapes, bytes)"))
    lines = [
        "# A classifier of medical images",
        "",
        "Research use only; not for clinical use. It makes mistakes. Trained with medvlp.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {cell(name)} | {cell(value)} |" for name, value in rows),
        "",
        "## Data and licences",
        "",
        "The weights come from the tower above and from this data; the terms of each apply.",
        "",
        *data_table(lineage),
        "",
        "## Use",
        "",
        f"```python\n{OPEN}{use(classifier)}{EXAMPLE}```",
        "",
        f"Checked at export in a new process: logits within {difference:.1e} of the checkpoint's. Probabilities are not "
        "calibrated by themselves.",
    ]
    return "\n".join(lines) + "\n"


RELOAD = """
import json, sys
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel

folder, scratch = sys.argv[1:]
{use}
answers = classify([Image.open(f"{{scratch}}/{{number}}.png").convert("RGB") for number in range({pictures})])
assert not any(name.split(".")[0] == "medvlp" for name in sys.modules)
torch.save(answers, f"{{scratch}}/answers.pt")
"""
