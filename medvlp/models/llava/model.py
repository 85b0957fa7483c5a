"""An assistant: transformers' own Llava (or FastVlm, for convolutional towers), put together from a tower and a language
model.

N: images; P: tokens an image; S: side of an image; D: width of the language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.models.parts import Parts, freeze_unused
from medvlp.models.towers.reduce import Reduce
from medvlp.models.towers.tower import Tower, input_shape
from medvlp.models.weights import WeightsError
from medvlp.shards.vocabulary import IMAGE_TOKEN

KINDS = {"llava": "LlavaForConditionalGeneration", "fast_vlm": "FastVlmForConditionalGeneration"}


@dataclass
class Assistant:
    """A model with all that turns a conversation into its input.

    model: transformers' LlavaForConditionalGeneration or FastVlmForConditionalGeneration.
    kind: "llava" or "fast_vlm".
    tokenizer: transformers' fast tokenizer, which knows `<image>`.
    processor: transformers' image processor, PIL images → {"pixel_values": (N, 3, S, S)}.
    image_tokens: P.
    patch_size, extra_tokens: what LlavaProcessor needs to count P by itself.
    names: where tokenizer, tower and language model came from, with hashes.
    reduce: {"kind", "factor"} of the token reducer before the projector; stock transformers cannot load such a model.
    lora: settings of the adapters inside the language model, or {}.
    """

    model: Any
    kind: str
    tokenizer: Any
    processor: Any
    image_tokens: int
    patch_size: int
    extra_tokens: int
    names: dict[str, dict[str, str]]
    reduce: dict[str, Any] | None
    lora: dict[str, Any]

    @property
    def image_id(self) -> int:
        """The id of `<image>`."""
        return int(self.model.config.image_token_id)

    @property
    def pad_id(self) -> int:
        """What fills up rows; never seen by another token."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id)

    @property
    def parts(self) -> Parts:
        """vision, projector, language, and adapter where there are any."""
        adapters = tuple(name for name, _ in self.model.named_modules() if name.rpartition(".")[2].startswith("lora_"))
        parts = {
            "vision": ("model.vision_tower",),
            "projector": ("model.multi_modal_projector",),
            "language": ("model.language_model", "lm_head"),
        }
        return {**parts, "adapter": adapters} if adapters else parts


def image_token_id(tokenizer: Any) -> int:
    """The id of `<image>`, which is added to the tokenizer where it is not known."""
    from transformers import AddedToken

    if IMAGE_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    return int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))


def assemble(
    tower: Tower, language: Any, tokenizer: Any, language_name: dict[str, str], reduce: Reduce | None
) -> Assistant:
    """Tower and language model under a fresh two-layer projector (LLaVA-1.5).

    Adds `<image>` to the tokenizer, and a row to the embeddings where none is spare. Layers of the tower above the one
    whose features are taken are frozen: no gradient would ever reach them.

    Raises:
        WeightsError: a language model whose output layer Llava cannot express.
    """
    import transformers

    image_id = image_token_id(tokenizer)
    if len(tokenizer) > language.get_input_embeddings().num_embeddings:
        language.resize_token_embeddings(len(tokenizer))
    if getattr(language.get_output_embeddings(), "bias", None) is not None:
        raise WeightsError(f"{language_name['name']}: its output layer has a bias, which Llava's has not")
    attention = language.config._attn_implementation
    arguments = {
        "vision_config": tower.config,
        "text_config": language.config,
        "image_token_index": image_id,
        "image_seq_length": tower.tokens,
        "vision_feature_layer": tower.feature_layer,
        "vision_feature_select_strategy": tower.select_strategy,
        "tie_word_embeddings": bool(language.config.tie_word_embeddings),
    }
    config = (transformers.LlavaConfig if tower.kind == "llava" else transformers.FastVlmConfig)(**arguments)
    with torch.device("meta"):
        model: Any = getattr(transformers, KINDS[tower.kind])(config)
    language.config._attn_implementation = attention  # LlavaConfig and its model have set their own default
    inner = model.model
    inner.vision_tower = tower.model
    inner.language_model = getattr(language, language.base_model_prefix)
    model.lm_head = language.get_output_embeddings()
    model.generation_config = language.generation_config
    settings = None
    tokens = tower.tokens
    inner.multi_modal_projector = projector(model, tower.config.hidden_size, reduce)
    if reduce is not None:
        settings, tokens = {"kind": reduce.kind, "factor": reduce.factor}, reduce.tokens(tower.tokens)
    assert tower.model is not None
    freeze_unused(tower.model, tower_features(model, torch.zeros(1, *input_shape(tower.config))))
    names = {"tower": tower.identity, "language": language_name}
    return Assistant(
        model, tower.kind, tokenizer, tower.processor, tokens, tower.patch_size, tower.extra_tokens, names, settings, {}
    )


def projector(model: Any, width: int, reduce: Reduce | None) -> nn.Module:
    """transformers' own projector with PyTorch's initialisation; behind the reducer, where there is one."""
    kind = type(model.model.multi_modal_projector)
    layers: Any = kind(model.config)
    if reduce is None:
        return layers
    layers.linear_1 = nn.Linear(
        reduce.width(width), layers.linear_1.out_features, bias=layers.linear_1.bias is not None
    )
    return nn.Sequential(reduce, layers)


def add_lora(assistant: Assistant, rank: int, alpha: int, dropout: float, targets: Sequence[str]) -> Assistant:
    """Put peft's LoRA adapters (Hu 2021) into the language model, in place; all its other weights are frozen.

    Raises:
        WeightsError: no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    settings = {"rank": rank, "alpha": alpha, "dropout": dropout, "targets": list(targets)}
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(targets))
    try:
        inject_adapter_in_model(config, assistant.model.model.language_model)
    except ValueError as error:
        raise WeightsError(f"model.lora.targets={list(targets)}: {str(error).splitlines()[0]}") from None
    assistant.model.lm_head.requires_grad_(False)  # where it is no embedding too, peft has not seen it
    assistant.lora = settings
    return assistant


def tower_features(model: Any, pixels_N: Tensor) -> Tensor:
    """What the projector receives, (N, tokens, width of the tower), by the model's own configuration.

    pixels_N: (N, 3, S, S), or what else the tower takes of N images.
    """
    config, tower = model.config, model.model.vision_tower
    if config.model_type == "fast_vlm":
        return tower(pixels_N).last_hidden_state.flatten(2).transpose(1, 2)
    layer = config.vision_feature_layer
    states = tower(pixels_N, output_hidden_states=True).hidden_states
    features = states[layer] if isinstance(layer, int) else torch.cat([states[i] for i in layer], dim=-1)
    return features[:, 1:] if config.vision_feature_select_strategy == "default" else features


def projected_features(model: Any, images_N: Tensor) -> Tensor:
    """(N, P, D): features in the language model's space, of pixels or of the tower's cached features (N, P, width)."""
    features = images_N if images_N.ndim == 3 else tower_features(model, images_N)
    projected: Tensor = model.model.multi_modal_projector(features)
    return projected
