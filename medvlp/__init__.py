"""medvlp: from medical figures and reports to a published, comparable vision-language model. Research use only."""

from pathlib import Path
from typing import Any

__all__ = ["load", "read_image"]


def load(checkpoint: str | Path) -> tuple[Any, Any, Any]:
    """A model by its name, ready for use, in eval mode.

    Of a CLIP model: open_clip's model, its image transform and its tokenizer, which work together as open_clip's do:

        model, transform, tokenizer = medvlp.load("runs/rocov2/checkpoints/last.ckpt")
        image = medvlp.read_image("chest.png")
        features = model.encode_image(transform(image)[None], normalize=True)   # (1, D)
        texts = model.encode_text(tokenizer(["a chest X-ray"]), normalize=True)  # (1, D)

    Of a classifier: its model, its image transform, and the classes of each head:

        model, transform, classes = medvlp.load("runs/classify_breastmnist/checkpoints/best.ckpt")
        logits = model(transform(image)[None])["malignancy"]                    # (1, C), in the order of its classes
        probabilities = dict(zip(classes["malignancy"], logits[0].softmax(0).tolist()))

    Of an assistant: transformers' model, its processor with the chat template trained with, and its tokenizer:

        model, processor, tokenizer = medvlp.load("runs/vqa_rad/checkpoints/last.ckpt")
        turns = [{"role": "user", "content": "<image>\nIs there a fracture?"}]
        text = processor.apply_chat_template(turns, add_generation_prompt=True)
        inputs = processor(images=image, text=text, return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=64)  # greedy
        answer = processor.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    Of an `hf:` model: transformers' model, its processor and its tokenizer.

    Args:
        checkpoint: a run's folder or a file of its checkpoints/, or an `open_clip:` or `hf:` name; see docs/models.md.
    Raises:
        ConfigError: a name that is not understood, or a model that is not opened here.
        CheckpointError, WeightsError: damaged, not one of ours, or weights that are missing or do not fit.
    """
    from medvlp.builders.clip import clip_named, model_kind
    from medvlp.config.model_names import parse_model_name

    name = parse_model_name(str(checkpoint))
    if name.scheme == "hf":
        from medvlp.builders.schemes.huggingface import load_parts

        return load_parts(name)
    if name.scheme == "checkpoint" and model_kind(name.target) == "llava":
        from medvlp.builders import load_assistant
        from medvlp.export.transformers import greedy, llava_processor

        trained = load_assistant(name.target)
        model, processor = trained.assistant.model, llava_processor(trained.assistant, trained.encoder)
        model.generation_config = greedy(trained.assistant, trained.encoder)
        return model, processor, processor.tokenizer
    if name.scheme == "checkpoint" and model_kind(name.target) == "classifier":
        from medvlp.builders.classifier import load_parts as load_classifier_parts

        return load_classifier_parts(name.target)
    clip, _ = clip_named(name, "checkpoint")
    return clip.model, clip.transform, clip.tokenizer


def read_image(path: str | Path, max_pixels: int = 64_000_000) -> Any:
    """An image file (JPEG, PNG, WebP) as PIL's RGB, shown as training and evaluation show it: upright, transparent pixels on
    white, grey of more than 8 bits scaled.

    Raises:
        BadSample: too large, a mere strip, of several frames, or not to be decoded.
        OSError: the file cannot be opened.
    """
    from medvlp.data.images.decode import decode_image

    return decode_image(Path(path).read_bytes(), max_pixels)
