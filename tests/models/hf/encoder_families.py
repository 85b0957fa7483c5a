"""Folders of CLIP-like families with random weights, their image processors and tokenizers, small enough for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as hf
from transformers import PreTrainedTokenizerFast

from tests.assistants import scrambled
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.models.hf.families import VISION

SQUARE = {"height": 32, "width": 32}
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def words(length: int, begins: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer whose texts begin and end with a token of their own, of a fixed greatest length."""
    from tokenizers import processors

    plain = tiny_tokenizer("chatml")
    bos, eos = plain.bos_token, plain.eos_token
    special = [(bos, plain.bos_token_id), (eos, plain.eos_token_id)]
    plain.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}" if begins else f"$A {eos}", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=plain.pad_token,
        model_max_length=length,
    )


def save(folder: Path, model: Any, image_processor: Any, tokenizer: PreTrainedTokenizerFast) -> Path:
    scrambled(model).save_pretrained(folder)
    image_processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ends(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = ("bos", "eos", "pad")
    return {
        "vocab_size": len(tokenizer),
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names},
    }


CLIP_IMAGES = {"size": {"shortest_edge": 32}, "crop_size": SQUARE}
CLIP_VISION = {"image_size": 32, "patch_size": 16, **VISION}


def clip(folder: Path, config_class: Any = hf.CLIPConfig, model_class: Any = hf.CLIPModel) -> Path:
    tokenizer = words(24)
    text = {**TEXT, **ends(tokenizer), "max_position_embeddings": 24}
    config = config_class(text_config=text, vision_config=CLIP_VISION, projection_dim=16)
    return save(folder, model_class(config), hf.CLIPImageProcessorPil(**CLIP_IMAGES), tokenizer)


def metaclip_2(folder: Path) -> Path:
    return clip(folder, hf.MetaClip2Config, hf.MetaClip2Model)


def siglip(folder: Path) -> Path:
    tokenizer = words(16, begins=False)
    tokenizer.model_input_names = ["input_ids"]
    text = {**TEXT, **ends(tokenizer), "max_position_embeddings": 16, "projection_size": 32}
    config = hf.SiglipConfig(text_config=text, vision_config=CLIP_VISION)
    return save(folder, hf.SiglipModel(config), hf.SiglipImageProcessorPil(size=SQUARE), tokenizer)


def siglip2(folder: Path) -> Path:
    """With images of their own shape (NaFlex); SigLIP 2 of one fixed shape has SigLIP's classes."""
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "-", ",", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = hf.Siglip2Tokenizer(vocab=vocabulary, merges=[], model_max_length=16, padding_side="right")
    tokenizer.model_input_names = ["input_ids"]
    text = {**TEXT, **ends(tokenizer), "max_position_embeddings": 16, "projection_size": 32}
    vision = {"patch_size": 8, "num_patches": 16, **VISION}
    images = hf.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16)
    return save(folder, hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config=vision)), images, tokenizer)


def altclip(folder: Path) -> Path:
    tokenizer = words(24)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(1)  # positions begin behind it, as XLM-RoBERTa's do
    text = {**TEXT, **ends(tokenizer), "max_position_embeddings": 40, "project_dim": 16}
    config = hf.AltCLIPConfig(text_config=text, vision_config={**CLIP_VISION, "projection_dim": 16}, projection_dim=16)
    return save(folder, hf.AltCLIPModel(config), hf.CLIPImageProcessorPil(**CLIP_IMAGES), tokenizer)


def chinese_clip(folder: Path) -> Path:
    tokenizer = words(24)
    text = {**TEXT, **ends(tokenizer), "max_position_embeddings": 24}
    config = hf.ChineseCLIPConfig(text_config=text, vision_config=CLIP_VISION, projection_dim=16)
    return save(folder, hf.ChineseCLIPModel(config), hf.ChineseCLIPImageProcessorPil(**CLIP_IMAGES), tokenizer)


def vision_text_dual_encoder(folder: Path) -> Path:
    tokenizer = words(24)
    text = hf.BertModel(hf.BertConfig(**TEXT, **ends(tokenizer), max_position_embeddings=24))
    model = hf.VisionTextDualEncoderModel(vision_model=hf.ViTModel(hf.ViTConfig(**CLIP_VISION)), text_model=text)
    return save(folder, model, hf.ViTImageProcessorPil(size=SQUARE), tokenizer)


def align(folder: Path) -> Path:
    tokenizer = words(24)
    text = {**TEXT, **ends(tokenizer), "max_position_embeddings": 24}
    stages = {"kernel_sizes": [3], "in_channels": [32], "out_channels": [16], "depthwise_padding": [], "strides": [1]}
    stages |= {"num_block_repeats": [1], "expand_ratios": [1]}
    vision = {"image_size": 32, "width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 32, **stages}
    config = hf.AlignConfig(text_config=text, vision_config=vision, projection_dim=16)
    images = hf.EfficientNetImageProcessorPil(size=SQUARE, do_center_crop=False)
    return save(folder, hf.AlignModel(config), images, tokenizer)


ENCODERS: dict[str, Callable[[Path], Path]] = {
    make.__name__: make
    for make in (clip, metaclip_2, siglip, siglip2, altclip, chinese_clip, vision_text_dual_encoder, align)
}
"""Family of CLIP-like models → writes a folder of it."""
