"""A CLIP as transformers' CLIPModel, SiglipModel or VisionTextDualEncoderModel, with its processor.

E: shared width.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextModel,
    CLIPVisionModel,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    SiglipTextModel,
    SiglipVisionModel,
    TimmWrapperModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    VisionTextDualEncoderProcessor,
)

from medvlp.export.clip.check import EmbeddingCheck, Tolerances, check_embeddings
from medvlp.export.clip.provenance import Provenance, check_pairs
from medvlp.export.clip.tokenizers import stock_tokenizer
from medvlp.export.clip.towers import TowerPart, image_part, text_part
from medvlp.export.folder import whole_folder
from medvlp.export.transformers import NotExportable, without_paths
from medvlp.models.clip.model import Clip
from medvlp.models.towers.processors import clip_processor
from medvlp.models.weights import WeightsError

TOLERANCES = Tolerances(1e-5, may_shift=True)
PROCESSORS = {
    "CLIPModel": CLIPProcessor,
    "SiglipModel": SiglipProcessor,
    "VisionTextDualEncoderModel": VisionTextDualEncoderProcessor,
}


def dual_encoder(clip: Clip) -> Any:
    """The model of transformers, in evaluation mode: its image_embeds and text_embeds are the CLIP's unit vectors.

    Raises:
        NotExportable: transformers has no such model; says what can be done.
    """
    image, text = image_part(clip), text_part(clip)
    width = int(clip.model_cfg["embed_dim"])
    scale = clip.model.logit_scale.detach().float().reshape(())  # type: ignore[operator]
    if isinstance(image.model, CLIPVisionModel) and isinstance(text.model, CLIPTextModel):
        model: Any = CLIPModel(
            CLIPConfig(
                vision_config=image.model.config.to_dict(),
                text_config=text.model.config.to_dict(),
                projection_dim=width,
            )
        )
        return _filled(model, image, text, {"logit_scale": scale}, width)
    is_siglip = isinstance(image.model, SiglipVisionModel) and image.projection_ED is None
    if is_siglip and isinstance(text.model, SiglipTextModel):
        model = SiglipModel(
            SiglipConfig(vision_config=image.model.config.to_dict(), text_config=text.model.config.to_dict())
        )
        bias: Any = getattr(clip.model, "logit_bias", None)
        scalars = {"logit_scale": scale.reshape(1), "logit_bias": torch.zeros(1) if bias is None else bias.reshape(1)}
        return _filled(model, image, text, scalars, None)
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        image.model.config, text.model.config, projection_dim=width
    )
    return _filled(
        VisionTextDualEncoderModel(config, image.model, text.model), image, text, {"logit_scale": scale}, width
    )


def _filled(model: Any, image: TowerPart, text: TowerPart, scalars: dict[str, Tensor], width: int | None) -> Any:
    """The model with all weights. width: of its projections; None where it has none."""
    tensors = {f"vision_model.{name}": tensor for name, tensor in image.model.state_dict().items()}
    tensors |= {f"text_model.{name}": tensor for name, tensor in text.model.state_dict().items()}
    if width is not None:
        for name, part in (("visual_projection", image), ("text_projection", text)):
            weight_ED = torch.eye(width) if part.projection_ED is None else part.projection_ED
            tensors[f"{name}.weight"] = weight_ED.detach()
    model.load_state_dict(tensors | scalars)
    return model.float().eval()


def write_dual_encoder(clip: Clip, folder: Path) -> Any:
    """config.json, model.safetensors, and the files of a processor and a tokenizer.

    folder: exists and is empty.

    Returns: the model.
    Raises:
        NotExportable: transformers has no such model, preprocessing or tokenizer.
    """
    model = dual_encoder(clip)
    try:
        image_processor = clip_processor(clip.preprocess)
    except WeightsError as error:
        raise NotExportable(str(error)) from None
    kind, tokenizer = type(model).__name__, stock_tokenizer(clip)
    if kind == "SiglipModel":  # it reads padding as any other token
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = ["input_ids"]
    processor: Any = PROCESSORS[kind](image_processor=image_processor, tokenizer=tokenizer)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.glob("*config.json"):
        path.write_text(json.dumps(without_paths(json.loads(path.read_text("utf-8"))), indent=2) + "\n", "utf-8")
    for path in folder.rglob("*.safetensors"):
        path.chmod((folder / "config.json").stat().st_mode)
    return model


def export_dual_encoder(clip: Clip, source: Provenance, output: Path) -> tuple[str, EmbeddingCheck]:
    """Write the folder; open it in a new process with stock transformers, and compare embeddings.

    Returns: the model's class, and what the check found.
    Raises:
        NotExportable: transformers has no such model; says what can be done.
        ExportMismatch: the folder computes something else; nothing is kept.
    """
    with whole_folder(output) as (folder, scratch):
        model = write_dual_encoder(clip, folder)
        padding = '"max_length"' if type(model).__name__ == "SiglipModel" else "True"
        use = USE.format(padding=padding)
        script = RELOAD.format(use=use)
        check = check_embeddings(folder, scratch, clip, check_pairs(source), script, "transformers", TOLERANCES)
        (folder / "README.md").write_text(readme(clip, source, model, use, check), encoding="utf-8")
    return type(model).__name__, check


def summary(output: Path, kind: str, check: EmbeddingCheck) -> str:
    """How the folder is opened, and what was compared, for the terminal."""
    shifted = (
        f"; the crop of {check.shifted} images begins a pixel earlier than in training with PIL"
        if check.shifted
        else ""
    )
    return (
        f"{output}: opens with transformers' AutoModel ({kind}) and AutoProcessor; its README.md has the lines\n"
        f"compared in a new process with stock transformers, by {check.pairs.description}: largest difference of an embedding's "
        f"element {check.largest:.1e}{shifted}"
    )


def readme(clip: Clip, source: Provenance, model: Any, use: str, check: EmbeddingCheck) -> str:
    """The model card."""
    needs_timm = isinstance(model.vision_model, TimmWrapperModel)
    header = [
        "---",
        "library_name: transformers",
        "pipeline_tag: zero-shot-image-classification",
        "license: other",
        "license_name: see-the-card",
        f"tags: [medical, {model.config.model_type}, contrastive, medvlp]",
        "---",
        "",
    ]
    texts = [
        "# A medical CLIP model",
        "Research use only; not for clinical use. It embeds images and texts in one space. Exported with medvlp.",
        source.parts(clip),
        source.sections(),
        "## Use",
        f"It needs transformers{' and timm (`pip install timm`)' if needs_timm else ''}, and no network.",
        f"```python\n{OPEN}{use}{EXAMPLE}```",
        "## Checked",
        *check.sentences(TOLERANCES, "transformers"),
    ]
    if getattr(clip.model, "logit_bias", None) is not None and not hasattr(model, "logit_bias"):
        texts.append(f"{type(model).__name__} has no place for the logit bias; embeddings do not depend on it.")
    if clip.model_cfg["text_cfg"].get("hf_pooler_type") == "cls_last_hidden_state_pooler":
        texts.append("Keep its weights in float32 or bfloat16: in float16 the text tower's pooler loses digits.")
    return "\n".join(header) + "\n\n".join(text.rstrip("\n") for text in texts) + "\n"


OPEN = """\
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

folder = "<path of this folder>"
"""
USE = """\
model = AutoModel.from_pretrained(folder).eval()
processor = AutoProcessor.from_pretrained(folder, backend="pil")


def inputs_of(images, texts):
    length = processor.tokenizer.model_max_length
    return processor(
        images=images, text=texts, padding={padding}, truncation=True, max_length=length, return_tensors="pt"
    )


def embeddings(inputs):
    with torch.no_grad():
        output = model(**inputs)
    return output.image_embeds, output.text_embeds  # unit vectors
"""
EXAMPLE = """\

image = Image.new("RGB", (512, 512))  # or Image.open("chest.png").convert("RGB")
images, texts = embeddings(inputs_of([image], ["a chest radiograph", "a brain MRI"]))
print(images @ texts.T)
"""
RELOAD = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

folder, scratch = sys.argv[1:]
{use}
def padded(inputs):
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    return (ids if mask is None else ids.masked_fill(mask == 0, -1)).numpy()


questions = json.loads(Path(scratch, "questions.json").read_text("utf-8"))
images = [Image.open(path).convert("RGB") for path in sorted(Path(scratch, "images").iterdir())]
inputs = inputs_of(images, questions["texts"])
image, text = embeddings(inputs)
default = AutoProcessor.from_pretrained(folder).image_processor(images, return_tensors="pt")["pixel_values"]
default = embeddings({{**inputs, "pixel_values": default}})[0]
assert not any(name.split(".")[0] in ("medvlp", "open_clip") for name in sys.modules)
np.savez(
    Path(scratch, "answers.npz"), pixels=inputs["pixel_values"].numpy(), images=image.numpy(), texts=text.numpy(),
    default=default.numpy(), ids=padded(inputs), raw_ids=padded(inputs_of(images[:1], questions["raw"])),
)
"""
