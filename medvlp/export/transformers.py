"""An assistant as a Hugging Face folder: stock transformers' model, processor and chat template."""

import copy
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import processors
from torch import Tensor

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.errors import UserError
from medvlp.export.chat_template import parts_template
from medvlp.models.llava.generate import BatchedGenerator
from medvlp.models.llava.model import Assistant
from medvlp.models.towers import MODEL_TYPES

ADAPTER = "adapter"
"""The folder of LoRA adapters that were not merged."""
PREFIXED_TOWERS = ("clip_vision_model", "siglip_vision_model")
"""Towers whose weights are written as `vision_tower.vision_model.*`: the names of transformers 4 and of servers built on it.
Version 5 reads them too, but writes them without `vision_model`."""


class NotExportable(UserError):
    """Stock transformers has no such model; the message says why and what can be done."""


def check_exportable(assistant: Assistant, separate: bool = False) -> None:
    """Can stock transformers (and peft, where adapters are kept apart) be given this model?

    Raises:
        NotExportable: a token reducer, a tower of its own, or no adapters to keep apart.
    """
    if assistant.reduce is not None:
        raise NotExportable(
            f"the model has a token reducer ({assistant.reduce['kind']}, factor {assistant.reduce['factor']}) between its "
            f"tower and its projector, and no model of stock transformers has one; train with model.reduce.kind= (none)"
        )
    model_type = assistant.model.config.vision_config.model_type
    if MODEL_TYPES[model_type] != "transformers":
        raise NotExportable(f"the model's tower is a {model_type}, which stock transformers does not know")
    if separate and not assistant.lora:
        raise NotExportable("adapter=separate, but the checkpoint has no LoRA adapters; leave adapter out")


def write_assistant(assistant: Assistant, encoder: ChatEncoder, folder: Path, separate: bool = False) -> None:
    """Write model, generation settings, processor, tokenizer and chat template.

    LoRA adapters are merged, in place; the assistant has none afterwards.

    Args:
        folder: exists and is empty.
        separate: keep the adapters apart, as <folder>/adapter/, which peft loads onto the model.
    Raises:
        NotExportable: as `check_exportable`, and adapters that cannot be merged.
    """
    check_exportable(assistant, separate)
    if separate:
        write_adapter(assistant, folder / ADAPTER)
    remove_adapters(assistant, merge=not separate)
    model = assistant.model
    model.generation_config = greedy(assistant, encoder)
    for config in (model.config.text_config, model.config.vision_config):
        config.dtype = (
            model.dtype
        )  # a published part may say bfloat16, in which it would be loaded; it was trained further
    model.save_pretrained(folder)
    if model.config.vision_config.model_type in PREFIXED_TOWERS:
        rename_tensors(folder, r"^(model\.)?vision_tower\.", r"\g<0>vision_model.")
    llava_processor(assistant, encoder).save_pretrained(folder)
    for path in folder.glob("*config.json"):
        path.write_text(json.dumps(without_paths(json.loads(path.read_text("utf-8"))), indent=2) + "\n", "utf-8")
    for path in folder.rglob("*.safetensors"):
        path.chmod((folder / "config.json").stat().st_mode)  # safetensors gives its files to their owner alone


def llava_processor(assistant: Assistant, encoder: ChatEncoder) -> Any:
    """transformers' LlavaProcessor: makes pixels, and of each `<image>` as many tokens as the model has features.

    The chat template writes every control token, so the tokenizer adds none by itself: a prompt is the same whether it
    is tokenised by `apply_chat_template` or rendered first.
    """
    from transformers import LlavaProcessor

    tokenizer = copy.deepcopy(assistant.tokenizer)
    if tokenizer("a")["input_ids"] != tokenizer("a", add_special_tokens=False)["input_ids"]:
        for name in ("add_bos_token", "add_eos_token"):
            if getattr(tokenizer, name, False):
                setattr(tokenizer, name, False)
        tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
    # So that answers of a batch begin where their prompts end; what is saved are the arguments that it was made with.
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    tokenizer.chat_template = parts_template(encoder.template)
    return LlavaProcessor(
        assistant.processor,
        tokenizer,
        patch_size=assistant.patch_size,
        vision_feature_select_strategy=assistant.model.config.vision_feature_select_strategy,
        chat_template=tokenizer.chat_template,
        num_additional_image_tokens=assistant.extra_tokens,
    )


def greedy(assistant: Assistant, encoder: ChatEncoder) -> Any:
    """Generation as evaluated: the likeliest token each time, until an end token of the template or of the model.

    A language model's own settings (temperature, repetition penalty) are not kept: they would change the answers.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=False,
        bos_token_id=assistant.tokenizer.bos_token_id,
        eos_token_id=end_tokens(assistant, encoder),
        pad_token_id=assistant.pad_id,
    )


def end_tokens(assistant: Assistant, encoder: ChatEncoder) -> list[int]:
    """Ids that end an answer: the one that the template writes after it, and the language model's own."""
    return BatchedGenerator(assistant, encoder.ends()).stop_ids


def adapted_layers(assistant: Assistant) -> list[tuple[str, Any]]:
    """Layers with LoRA adapters, by name."""
    if not assistant.lora:
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, layer) for name, layer in assistant.model.named_modules() if isinstance(layer, BaseTunerLayer)]


def remove_adapters(assistant: Assistant, merge: bool) -> None:
    """Take LoRA layers out again, so that the stock names remain.

    Args:
        merge: add what they have learned to the weights under them first.
    Raises:
        NotExportable: merged weights would not be finite.
    """
    for name, layer in adapted_layers(assistant):
        if merge:
            try:
                layer.merge(safe_merge=True)
            except ValueError as error:
                raise NotExportable(f"the adapter of {name} cannot be merged: {error}") from None
        parent, _, child = name.rpartition(".")
        setattr(assistant.model.get_submodule(parent), child, layer.get_base_layer())
    language = assistant.model.model.language_model
    if hasattr(language, "peft_config"):
        del language.peft_config
    assistant.lora = {}


def write_adapter(assistant: Assistant, folder: Path) -> None:
    """adapter_config.json and adapter_model.safetensors, for `peft.PeftModel.from_pretrained(model, folder)`."""
    from peft import LoraConfig

    layers = [name for name, _ in adapted_layers(assistant)]
    folder.mkdir()
    lora = assistant.lora
    LoraConfig(
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        # by their whole names: layers of the tower may end as those of the language model do
        target_modules=layers,
        inference_mode=True,
    ).save_pretrained(str(folder))
    weights = {
        f"base_model.model.{name.replace('.default.', '.')}": tensor.detach().contiguous()
        for name, tensor in assistant.model.state_dict().items()
        if re.search(r"\.lora_\w+\.", name)
    }
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def rename_tensors(folder: Path, pattern: str, replacement: str) -> None:
    """Rename tensors in the folder's safetensors files, and in their index where there are several."""

    def renamed(names: Iterable[str]) -> dict[str, str]:
        return {name: re.sub(pattern, replacement, name) for name in names}

    for path in sorted(folder.glob("*.safetensors")):
        tensors: dict[str, Tensor] = load_file(path)
        names = renamed(tensors)
        temporary = path.with_suffix(
            ".renamed"
        )  # the tensors are mapped from the old file while the new one is written
        save_file({names[name]: tensor for name, tensor in tensors.items()}, temporary, metadata={"format": "pt"})
        temporary.replace(path)
    for path in folder.glob("*.safetensors.index.json"):
        index = json.loads(path.read_text("utf-8"))
        names = renamed(index["weight_map"])
        index["weight_map"] = {names[name]: file for name, file in index["weight_map"].items()}
        path.write_text(json.dumps(index, indent=2) + "\n", "utf-8")


def without_paths(config: Any) -> Any:
    """A configuration without the folders of this machine."""
    if isinstance(config, dict):
        portable = {name: value for name, value in config.items() if name not in ("_name_or_path", "name_or_path")}
        return {name: without_paths(value) for name, value in portable.items()}
    return [without_paths(value) for value in config] if isinstance(config, list) else config
