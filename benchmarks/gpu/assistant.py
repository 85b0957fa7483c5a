"""Instruction tuning: tokens a second of packed rows, trees and padded rows, attention that agrees, and four-bit weights."""

import importlib.util
import inspect
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen2Config
from transformers.modeling_outputs import BaseModelOutputWithPooling

from benchmarks.gpu.parts import Missing
from benchmarks.gpu.scale import Scale, distance
from benchmarks.gpu.timing import peak_bytes, seconds_of
from medvlp.data.chat.encoder import Encoded
from medvlp.data.chat.packing import CollateConversations, PackedBatch
from medvlp.losses.token_cross_entropy import linear_cross_entropy
from medvlp.models.llava.model import projected_features
from medvlp.models.llava.packed import last_hidden
from medvlp.models.llava.quantized import four_bit_layers, load_plain_state, plain_state

GIB = 2**30
PAD_ID, IMAGE_ID, WORDS_FROM = 0, 1, 2
ROWS = {"padded": 1, "sequence": 4, "tree": 4}
"""Way → conversations of a row, or images of one for trees."""


class Given(nn.Module):
    """In the image tower's place: takes features for pixels."""

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=pixel_values, hidden_states=(pixel_values,))


def assistant(scale: Scale, attention: str, device: torch.device, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' Llava of random weights, the same every time."""
    torch.manual_seed(0)
    text = Qwen2Config(**scale.language, tie_word_embeddings=True)
    width = scale.language["hidden_size"]
    vision = CLIPVisionConfig(hidden_size=width, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_ID,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    config._attn_implementation = attention
    config.text_config._attn_implementation = attention
    model: Any = LlavaForConditionalGeneration(config)
    model.model.vision_tower = Given()
    model.model.language_model.config._attn_implementation = attention
    return model.to(device, dtype)


def conversations(scale: Scale, seed: int) -> list[Encoded]:
    """Questions about one image: its tokens first, then words of unequal numbers, the last third of them supervised."""
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(scale.questions):
        count = int(rng.integers(scale.words // 2 + 1, scale.words + 1))
        words = rng.integers(WORDS_FROM, scale.language["vocab_size"], count)
        ids = np.concatenate([np.full(scale.image_tokens, IMAGE_ID), words]).astype(np.int64)
        results.append(Encoded(ids, np.arange(len(ids)) >= len(ids) - max(count // 3, 1)))
    return results


def batch_of(scale: Scale, way: str) -> PackedBatch:
    """All questions about the images: a question a row, several in a row, or trees behind their images."""
    items = []
    for image in range(scale.images):
        generator = torch.Generator().manual_seed(image)
        features_1PD = torch.randn(1, scale.image_tokens, scale.language["hidden_size"], generator=generator)
        questions = conversations(scale, image)
        groups = [questions] if way == "tree" else [[question] for question in questions]
        items += [{"conversations": group, "images": features_1PD} for group in groups]
    total = float(sum(int(question.supervised.sum()) for item in items for question in item["conversations"]))
    rows = [items[start : start + ROWS[way]] for start in range(0, len(items), ROWS[way])]
    collate = CollateConversations(PAD_ID, IMAGE_ID, scale.image_tokens, way == "tree", "token")
    return collate([unit_of(row, total) for row in rows])


def unit_of(items: list[dict[str, Any]], total: float) -> dict[str, Any]:
    """A row, as the loader hands it out. total: supervised tokens of the step."""
    numbered = [{"key": str(position), "position": position, **item} for position, item in enumerate(items)]
    return {"items": numbered, "bad": [], "total": total}


def backward(model: Any, batch: PackedBatch, dtype: torch.dtype | None = None) -> float:
    """The loss of a batch, and its gradients. dtype: of automatic mixed precision."""
    model.zero_grad()
    device = batch.ids_RL.device.type
    is_forward_only = device == "cpu" and "flex" in model.config.text_config._attn_implementation
    with (
        torch.autocast(device, dtype=dtype or torch.bfloat16, enabled=dtype is not None),
        torch.set_grad_enabled(not is_forward_only),  # flex attention has no gradients on a CPU
    ):
        hidden_RLD = last_hidden(model, batch, projected_features(model, batch.images_N))
        hidden_TD = hidden_RLD.flatten(0, 1).index_select(0, batch.logit_positions_T)
        loss = linear_cross_entropy(hidden_TD, model.lm_head.weight, batch.targets_T, batch.weights_T)
    if not is_forward_only:
        loss.backward()
    return float(loss.detach())


def gradients_of(model: Any) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def packed(scale: Scale, device: torch.device) -> dict[str, Any]:
    """The same questions in padded rows, packed rows and trees: tokens that the model computes, and milliseconds, a question;
    tokens a second; peak memory. Trees with flex attention, too."""
    results: dict[str, Any] = {}
    losses = {}
    for way, attention in (("padded", "sdpa"), ("sequence", "sdpa"), ("tree", "sdpa"), ("tree", "flex_attention")):
        name = way if attention == "sdpa" else f"{way}_flex"
        model = assistant(scale, attention, device)
        batch = move_data_to_device(batch_of(scale, way), device)
        run = partial(backward, model, batch, torch.bfloat16)
        losses[name] = run()
        seconds, bytes_held = seconds_of(run, device, 3, warm=1), peak_bytes(run, device)
        questions = scale.images * scale.questions
        results |= {
            f"{name}_tokens_of_a_question": batch.ids_RL.numel() / questions,
            f"{name}_ms_of_a_question": 1e3 * seconds / questions,
            f"{name}_tokens_per_s": batch.ids_RL.numel() / seconds,
            f"{name}_gib": None if bytes_held is None else bytes_held / GIB,
        }
        del model, batch, run
    spread = max(losses.values()) / min(losses.values()) - 1
    assert spread < 0.01, f"the same questions have losses {losses}"
    return {**results, "loss_spread": spread}


def attention(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Gradients of packed trees by flex attention, and of packed rows by flash attention, against SDPA in float32; the flash
    kernel of torch over documents' lengths against SDPA with their mask."""
    results: dict[str, Any] = {}
    batch = move_data_to_device(batch_of(scale, "tree"), device)
    model = assistant(scale, "sdpa", device)
    expected_loss = backward(model, batch)
    expected = gradients_of(model)
    model = assistant(scale, "flex_attention", device)
    results["flex_loss_error"] = abs(backward(model, batch) / expected_loss - 1)
    assert results["flex_loss_error"] < 1e-4, results
    if device.type == "cuda":
        results["flex_gradient_error"] = distance(gradients_of(model), expected)
        assert results["flex_gradient_error"] < 1e-3, results
    del model, expected
    results |= flash_kernel(scale, device)
    if importlib.util.find_spec("flash_attn") is None or device.type != "cuda":
        results["flash_attention_2"] = "skipped: no package flash_attn"
        return results
    gradients = []
    for name in ("sdpa", "flash_attention_2"):
        model = assistant(scale, name, device, torch.bfloat16)
        collate = CollateConversations(PAD_ID, IMAGE_ID, scale.image_tokens, False, "token", flat=name != "sdpa")
        backward(model, move_data_to_device(rows_of(scale, collate), device))
        gradients.append(gradients_of(model))
    results["flash_attention_2_gradient_error"] = distance(gradients[1], gradients[0])
    assert results["flash_attention_2_gradient_error"] < 0.1, results
    return results


def rows_of(scale: Scale, collate: CollateConversations) -> PackedBatch:
    """A row of all questions about one image."""
    features_1PD = torch.randn(1, scale.image_tokens, scale.language["hidden_size"])
    items = [{"conversations": [question], "images": features_1PD} for question in conversations(scale, 0)]
    return collate([unit_of(items, 1.0)])


def flash_kernel(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Output of torch's flash kernel for documents of unequal lengths, against SDPA with a mask, in bfloat16."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return {"flash_kernel": "skipped: torch.nn.attention.varlen is not in this torch"}
    if device.type != "cuda":
        return {"flash_kernel": "skipped: needs a GPU"}
    lengths = [len(question.ids) for question in conversations(scale, 0)]
    starts = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=device)
    shape = (sum(lengths), scale.language["num_attention_heads"], 64)
    query, key, value = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(3))
    causal = (
        {"is_causal": True} if "is_causal" in inspect.signature(varlen_attn).parameters else {"window_size": (-1, 0)}
    )
    output = varlen_attn(query, key, value, starts, starts, max(lengths), max(lengths), **causal)
    documents_L = torch.repeat_interleave(
        torch.arange(len(lengths), device=device), torch.tensor(lengths, device=device)
    )
    mask_LL = (documents_L[:, None] == documents_L[None, :]).tril()
    expected = nn.functional.scaled_dot_product_attention(
        *(tensor.transpose(0, 1).float() for tensor in (query, key, value)), attn_mask=mask_LL
    )
    error = distance([output], [expected.transpose(0, 1)])
    assert error < 0.02, f"the flash kernel is {error:.1e} away from SDPA"
    return {"flash_kernel_error": error}


def nf4(scale: Scale, device: torch.device) -> dict[str, Any]:
    """A language model whose layers are of four bits: its plain state loads to the same bits; memory and pace of a pass."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Missing("no package bitsandbytes")
    import bitsandbytes

    model = assistant(scale, "sdpa", device)
    plain_bytes = sum(parameter.nbytes for parameter in model.parameters())
    for name, layer in list(model.model.language_model.named_modules()):
        if isinstance(layer, nn.Linear):
            parent = model.model.language_model.get_submodule(name.rpartition(".")[0])
            quantised = bitsandbytes.nn.Linear4bit(
                layer.in_features,
                layer.out_features,
                layer.bias is not None,
                compute_dtype=torch.bfloat16,
                quant_type="nf4",
                compress_statistics=False,
            )
            quantised.load_state_dict(layer.state_dict())
            setattr(parent, name.rpartition(".")[2], quantised.to(device))
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    layers = four_bit_layers(model)
    bits = {name: layer.weight.data.clone() for name, layer in layers.items()}
    load_plain_state(model, plain_state(model))
    changed = sum(not torch.equal(layers[name].weight.data, bits[name]) for name in bits)
    assert changed == 0, f"{changed} of {len(bits)} layers have other bits after their plain state was loaded"
    batch = move_data_to_device(batch_of(scale, "tree"), device)
    run = partial(backward, model, batch, torch.bfloat16)
    seconds, bytes_held = seconds_of(run, device, 3, warm=1), peak_bytes(run, device)
    return {
        "layers": len(bits),
        "weights_gib": sum(parameter.nbytes for parameter in model.parameters()) / GIB,
        "weights_gib_in_float32": plain_bytes / GIB,
        "tokens_per_s": batch.ids_RL.numel() / seconds,
        "gib": None if bytes_held is None else bytes_held / GIB,
    }
