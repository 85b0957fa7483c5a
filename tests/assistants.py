"""Assistants small enough for every test: their parts as folders that stock transformers loads, data, and a run's words."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from medvlp.data.chat.encoder import Encoded
from medvlp.models.llava.language import load_language
from medvlp.models.llava.model import Assistant, assemble
from medvlp.models.towers import load_tower
from medvlp.models.towers.reduce import Reduce
from medvlp.shards import Conversation, Sample, Turn
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.datasets import jpeg, pairs, write_split
from tests.models.tiny import TINY
from tests.runs import run_here, tiny_words

SIDE, PATCH = 32, 16
IMAGE_TOKENS = (SIDE // PATCH) ** 2
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"num_key_value_heads": 4, "tie_word_embeddings": False}),
}


def scrambled(model: nn.Module, seed: int = 0) -> Any:
    """The model with weights that are all different, norms and biases too: a term that is left out would show."""
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=made)
            parameter.copy_((1 + 0.1 * noise) if "norm" in name and "weight" in name else 0.15 * noise)
    return model.eval()


def tiny_language(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A folder with a causal language model of random weights and its ChatML tokenizer, which knows `<image>`.

    "llama": grouped queries, tied embeddings. "qwen2": attention biases, an output layer of its own, spare embeddings.
    """
    kind, model, more = FAMILIES[family]
    tokenizer = tiny_tokenizer("qwen2" if family == "qwen2" else "chatml")
    config = kind(
        vocab_size=512 if family == "qwen2" else len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **more,
    )
    scrambled(model(config), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tower(folder: Path, seed: int = 1) -> Path:
    """A folder with a CLIPVisionModel of random weights, 32 px, 4 image tokens of width 32, and its image processor."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=16,
    )
    scrambled(CLIPVisionModel(config), seed).save_pretrained(folder)
    square = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
    return folder


def tiny_clip_checkpoint(folder: Path, steps: int = 1, words: Sequence[str] = ()) -> Path:
    """The last checkpoint of a CLIP trained here for a few steps: a vision transformer of 2 layers, 32 px, 16 patches.

    words: more overrides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    architecture = copy.deepcopy(TINY)
    architecture["vision_cfg"] |= {"layers": 2}
    (folder / "tiny-clip.json").write_text(json.dumps(architecture))
    write_split(folder / "made/train", pairs(8))
    assert run_here([*tiny_words(folder), "run_name=clip", f"trainer.max_steps={steps}", *words]) == 0
    return folder / "runs/clip/checkpoints/last.ckpt"


def vqa_samples(count: int, questions: int = 3, images: int = 1, source: str = "made") -> list[Sample]:
    """Samples with 1 to `questions` conversations each, of unequal lengths; without images where `images` is 0.

    Open and closed questions alternate; the closed ones are answered yes or no. A sample's first conversation has a
    second question where its number is a multiple of 4.
    """
    names = {0: [], 1: ["jpg"]}.get(images, [f"{position}.jpg" for position in range(images)])
    return [
        Sample(
            key=f"{source}__i{number:04d}__0__0",
            images={name: jpeg(number * 10 + position) for position, name in enumerate(names)},
            conversations=[
                conversation(number, question_number, images) for question_number in range(1 + number % questions)
            ],
            metadata={"source": source, "licence": "CC0-1.0", "group": f"i{number:04d}", "group_kind": "image"},
        )
        for number in range(count)
    ]


def conversation(number: int, question_number: int, images: int) -> Conversation:
    """A conversation about sample `number`; the words differ from sample to sample."""
    region = ("left lung", "right upper lobe of the lung", "heart", "mediastinum")[(number + question_number) % 4]
    closed = (number + question_number) % 2 == 0
    question = f"Is the {region} enlarged?" if closed else f"What is seen in the {region}, in image {number}?"
    answer = ("yes", "no")[number % 3 == 0] if closed else f"a lesion of {number * 7 % 30} mm in the {region}"
    turns = [Turn("user", "<image>\n" * images + question), Turn("assistant", answer)]
    if question_number == 0 and number % 4 == 0:
        turns += [Turn("user", "How many are there?"), Turn("assistant", str(number % 5))]
    kind = {"answer_type": "closed" if closed else "open", "question_type": "size" if closed else "abnormality"}
    return Conversation(turns, f"{number}-{question_number}", {**kind, "language": "en"})


def assistant_words(folder: Path, family: str = "llama", samples: int = 24) -> list[str]:
    """Overrides of a tiny run on <folder>/made/train, which is made where it is not there, as are tower and language."""
    if not (folder / "made/train").exists():
        write_split(folder / "made/train", vqa_samples(samples))
    if not (folder / "tower").exists():
        tiny_tower(folder / "tower")
    if not (folder / family).exists():
        tiny_language(folder / family, family)
    return [
        "model=llava",
        "objective=instruct",
        f"model.vision.source={folder}/tower",
        f"model.language.source={folder}/{family}",
        f"data.sources.made.path={folder}/made/train",
        "objective.max_length=256",
        "data.global_batch_size=8",
        "data.workers=0",
        "data.log_samples=true",
        "optim.lr=2e-3",
        f"run_root={folder}/runs",
        "trainer.max_steps=6",
        "trainer.log_every=1",
        "trainer.checkpoint_every=3",
        "trainer.accelerator=cpu",
    ]


def tiny_assistant(folder: Path, family: str = "llama", tower: str = "clip", reduce: Reduce | None = None) -> Assistant:
    """An assistant with a fresh projector. `tower`: "clip" (32 px), or the name of one of timm's convolutional ones, random,
    at 64 px; 4 tokens an image in either case."""
    if not (folder / family).exists():
        tiny_language(folder / family, family)
    language, tokenizer, name = load_language(str(folder / family))
    if tower == "clip":
        if not (folder / "tower").exists():
            tiny_tower(folder / "tower")
        eye = load_tower(str(folder / "tower"))
    else:
        torch.manual_seed(3)
        trunk = timm.create_model(tower, num_classes=0)
        torch.save(trunk.state_dict(), folder / f"{tower}.pt")
        eye = load_tower(f"timm:{tower}", size=64, weights_file=str(folder / f"{tower}.pt"))
    torch.manual_seed(4)
    made = assemble(eye, language, tokenizer, name, reduce)
    made.model.eval()
    return made


def stock_losses(model: Any, conversations: list[Encoded], pixels_N3SS: torch.Tensor) -> list[torch.Tensor]:
    """Summed losses of an item's conversations, each alone in stock transformers' forward with labels."""
    losses = []
    for conversation in conversations:
        ids_1L = torch.from_numpy(conversation.ids)[None]
        labels_1L = torch.where(torch.from_numpy(conversation.supervised)[None], ids_1L, -100)
        output = model(
            input_ids=ids_1L,
            pixel_values=pixels_N3SS if len(pixels_N3SS) else None,
            attention_mask=torch.ones_like(ids_1L),
            labels=labels_1L,
            use_cache=False,
        )
        losses.append(output.loss * int(conversation.supervised.sum()))  # its own loss is the mean over them
    return losses
