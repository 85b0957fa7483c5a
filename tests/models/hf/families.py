"""Folders of transformers' families with random weights and their real processors, small enough for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as hf
from transformers import PreTrainedTokenizerFast

from tests.assistants import scrambled
from tests.data.chat.tiny_tokenizer import tiny_tokenizer

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
CHATML = ("<|im_start|>{{ m.role }}\n", "<|im_end|>\n", "<|im_start|>assistant\n")


def template(image: str, start: str, end: str, ask: str, before: str = "") -> str:
    """A chat template of contents that are strings or lists of parts."""
    part = f"{{% if p.type == 'image' %}}{image}{{% else %}}{{{{ p.text }}}}{{% endif %}}"
    parts = f"{{% for p in m.content %}}{part}{{% endfor %}}"
    content = f"{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}{parts}{{% endif %}}"
    asked = f"{{% if add_generation_prompt %}}{ask}{{% endif %}}"
    return f"{before}{{% for m in messages %}}{start}{content}{end}{{% endfor %}}{asked}"


def tokenizer(kind: str = "chatml", special: tuple[str, ...] = (), **named: str) -> PreTrainedTokenizerFast:
    """A small tokenizer with more special tokens; named: those that it knows by a name, such as image_token."""
    plain = tiny_tokenizer(kind)
    plain.add_special_tokens({"additional_special_tokens": [*special, *named.values()]})
    return PreTrainedTokenizerFast(
        tokenizer_object=plain.backend_tokenizer,
        bos_token=plain.bos_token,
        eos_token=plain.eos_token,
        pad_token=plain.pad_token,
        clean_up_tokenization_spaces=False,
        extra_special_tokens=named,
    )


def id_of(words: PreTrainedTokenizerFast, token: str) -> int:
    number = words.convert_tokens_to_ids(token)
    assert number is not None
    return int(number)


def text_config(words: PreTrainedTokenizerFast, family: str = "llama", **more: Any) -> dict[str, Any]:
    ends = {"eos_token_id": words.eos_token_id, "bos_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id}
    return {"model_type": family, "vocab_size": len(words), **TEXT, **ends, **more}


def save(folder: Path, model: Any, processor: Any, seed: int = 0) -> Path:
    """Write the folder. Its generation settings hold a penalty and an end, as published ones do."""
    scrambled(model, seed)
    settings = hf.GenerationConfig(
        eos_token_id=[processor.tokenizer.eos_token_id],
        pad_token_id=processor.tokenizer.pad_token_id,
        repetition_penalty=1.5,
        do_sample=True,
        temperature=0.7,
    )
    model.generation_config = settings
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    words = tokenizer()
    vision = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "projection_dim": 16, **VISION}
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config=text_config(words),
        image_token_index=id_of(words, "<image>"),
        image_seq_length=4,
        vision_feature_layer=-2,
    )
    square = {"height": 32, "width": 32}
    processor = hf.LlavaProcessor(
        hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square),
        words,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>\n", "{{ 'USER: ' if m.role == 'user' else 'ASSISTANT: ' }}", " ", "ASSISTANT:"),
    )
    return save(folder, hf.LlavaForConditionalGeneration(config), processor)


def llava_next(folder: Path) -> Path:
    words = tokenizer()
    vision = {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "projection_dim": 16, **VISION}
    grid = [[32, 64], [64, 32], [64, 64]]
    config = hf.LlavaNextConfig(
        vision_config=vision,
        text_config=text_config(words, "mistral"),
        image_token_index=id_of(words, "<image>"),
        image_grid_pinpoints=grid,
        image_seq_length=4,
    )
    square = {"height": 32, "width": 32}
    images = hf.LlavaNextImageProcessorPil(size={"shortest_edge": 32}, crop_size=square, image_grid_pinpoints=grid)
    processor = hf.LlavaNextProcessor(
        images,
        words,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>\n", *CHATML),
    )
    return save(folder, hf.LlavaNextForConditionalGeneration(config), processor)


def llava_onevision(folder: Path) -> Path:
    words = tokenizer(special=("<video>",))
    vision = {
        "model_type": "siglip_vision_model",
        "image_size": 32,
        "patch_size": 16,
        "vision_use_head": False,
        **VISION,
    }
    grid = [[32, 32], [32, 64], [64, 32], [64, 64]]
    config = hf.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=text_config(words, "qwen2"),
        image_token_index=id_of(words, "<image>"),
        video_token_index=id_of(words, "<video>"),
        image_grid_pinpoints=grid,
    )
    square = {"height": 32, "width": 32}
    processor = hf.LlavaOnevisionProcessor(
        hf.LlavaOnevisionImageProcessorPil(size=square, image_grid_pinpoints=grid),
        words,
        hf.LlavaOnevisionVideoProcessor(size=square),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template("<image>\n", *CHATML),
    )
    return save(folder, hf.LlavaOnevisionForConditionalGeneration(config), processor)


def qwen_words() -> PreTrainedTokenizerFast:
    return tokenizer(
        "qwen2",
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        vision_start_token="<|vision_start|>",
        vision_end_token="<|vision_end|>",
    )


def qwen_ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>"}
    names["vision_end"] = "<|vision_end|>"
    return {f"{name}_token_id": id_of(words, token) for name, token in names.items()}


def qwen2_vl(folder: Path) -> Path:
    words = qwen_words()
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    config = hf.Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 14},
        text_config=text_config(words, "qwen2_vl_text", rope_parameters=rope),
        **qwen_ids(words),
    )
    return save(folder, hf.Qwen2VLForConditionalGeneration(config), qwen_processor(hf.Qwen2VLProcessor, words, 14))


def qwen_processor(processor_class: Any, words: PreTrainedTokenizerFast, patch: int, videos: Any = None) -> Any:
    area = (2 * patch) ** 2
    images = hf.Qwen2VLImageProcessorPil(
        patch_size=patch, min_pixels=area, max_pixels=6 * area, size={"shortest_edge": area, "longest_edge": 6 * area}
    )
    return processor_class(
        images,
        words,
        videos or hf.Qwen2VLVideoProcessor(patch_size=patch),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>", *CHATML),
    )


def qwen2_5_vl(folder: Path) -> Path:
    words = qwen_words()
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 14}
    config = hf.Qwen2_5_VLConfig(
        vision_config={**vision, "out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1]},
        text_config=text_config(words, "qwen2_5_vl_text", rope_parameters=rope),
        **qwen_ids(words),
    )
    processor = qwen_processor(hf.Qwen2_5_VLProcessor, words, 14)
    return save(folder, hf.Qwen2_5_VLForConditionalGeneration(config), processor)


def qwen3_vl(folder: Path) -> Path:
    words = qwen_words()
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0, "mrope_interleaved": True}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16}
    config = hf.Qwen3VLConfig(
        vision_config={
            **vision,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        text_config=text_config(words, "qwen3_vl_text", rope_parameters=rope, head_dim=8),
        **qwen_ids(words),
    )
    processor = qwen_processor(hf.Qwen3VLProcessor, words, 16, hf.Qwen3VLVideoProcessor(patch_size=16))
    return save(folder, hf.Qwen3VLForConditionalGeneration(config), processor)


def internvl(folder: Path) -> Path:
    words = tokenizer(
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
    )
    vision = {"image_size": [32, 32], "patch_size": [8, 8], **VISION}
    config = hf.InternVLConfig(
        vision_config=vision,
        text_config=text_config(words, "qwen2"),
        image_token_id=id_of(words, "<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    square = {"height": 32, "width": 32}
    images = hf.GotOcr2ImageProcessorPil(size=square, crop_to_patches=True, min_patches=1, max_patches=3)
    processor = hf.InternVLProcessor(
        images,
        words,
        hf.InternVLVideoProcessor(size=square),
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>\n", *CHATML),
    )
    return save(folder, hf.InternVLForConditionalGeneration(config), processor)


IDEFICS_TOKENS = (
    "<fake_token_around_image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)
IDEFICS_TURNS = ("{{ m.role.capitalize() }}:", "<end_of_utterance>\n", "Assistant:")


def idefics3(folder: Path) -> Path:
    words = tokenizer(special=IDEFICS_TOKENS)
    config = hf.Idefics3Config(
        vision_config={"image_size": 32, "patch_size": 8, **VISION},
        text_config=text_config(words),
        image_token_id=id_of(words, "<image>"),
        scale_factor=2,
    )
    images = hf.Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = hf.Idefics3Processor(
        images, words, image_seq_len=4, chat_template=template("<image>", *IDEFICS_TURNS, before="{{ bos_token }}")
    )
    return save(folder, hf.Idefics3ForConditionalGeneration(config), processor)


def smolvlm(folder: Path) -> Path:
    words = tokenizer(special=IDEFICS_TOKENS)
    config = hf.SmolVLMConfig(
        vision_config={"image_size": 32, "patch_size": 8, **VISION},
        text_config=text_config(words),
        image_token_id=id_of(words, "<image>"),
        scale_factor=2,
    )
    images = hf.SmolVLMImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = hf.SmolVLMProcessor(
        images,
        words,
        hf.SmolVLMVideoProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        image_seq_len=4,
        chat_template=template("<image>", *IDEFICS_TURNS, before="{{ bos_token }}"),
    )
    return save(folder, hf.SmolVLMForConditionalGeneration(config), processor)


def gemma_text(words: PreTrainedTokenizerFast, family: str, **more: Any) -> dict[str, Any]:
    return text_config(words, family, head_dim=8, hidden_activation="gelu_pytorch_tanh", **more)


def paligemma(folder: Path) -> Path:
    words = tokenizer("gemma")
    vision = {
        "model_type": "siglip_vision_model",
        "image_size": 32,
        "patch_size": 16,
        "vision_use_head": False,
        **VISION,
    }
    images = hf.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    images.image_seq_length = 4
    processor = hf.PaliGemmaProcessor(images, words)
    config = hf.PaliGemmaConfig(
        vision_config={**vision, "projection_dim": 32},
        text_config=gemma_text(words, "gemma"),
        image_token_index=id_of(words, "<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    return save(folder, hf.PaliGemmaForConditionalGeneration(config), processor)


def gemma3(folder: Path) -> Path:
    words = tokenizer(
        "gemma-3", boi_token="<start_of_image>", eoi_token="<end_of_image>", image_token="<image_soft_token>"
    )
    vision = {
        "model_type": "siglip_vision_model",
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
        **VISION,
    }
    images = hf.Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    turns = (
        "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n",
        "<end_of_turn>\n",
        "<start_of_turn>model\n",
    )
    processor = hf.Gemma3Processor(
        images,
        words,
        image_seq_length=4,
        chat_template=template("<start_of_image>", *turns, before="{{ bos_token }}"),
    )
    config = hf.Gemma3Config(
        vision_config=vision,
        text_config=gemma_text(words, "gemma3_text", sliding_window=16, query_pre_attn_scalar=8),
        mm_tokens_per_image=4,
        boi_token_index=id_of(words, "<start_of_image>"),
        eoi_token_index=id_of(words, "<end_of_image>"),
        image_token_index=id_of(words, "<image_soft_token>"),
    )
    return save(folder, hf.Gemma3ForConditionalGeneration(config), processor)


def mllama(folder: Path) -> Path:
    words = tokenizer("llama-3", special=("<|image|>", "<|python_tag|>"))
    ratios = [[1, 1], [1, 2], [2, 1]]
    config = hf.MllamaConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
            "max_num_tiles": 2,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": ratios,
        },
        text_config={**text_config(words, "mllama_text_model"), "num_hidden_layers": 3, "cross_attention_layers": [1]},
        image_token_index=id_of(words, "<|image|>"),
    )
    turns = ("<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n", "<|eot_id|>")
    ask = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    processor = hf.MllamaProcessor(
        hf.MllamaImageProcessorPil(size={"height": 32, "width": 32}, max_image_tiles=2),
        words,
        chat_template=template("<|image|>", *turns, ask, before="{{ bos_token }}"),
    )
    return save(folder, hf.MllamaForConditionalGeneration(config), processor)


CHAT: dict[str, Callable[[Path], Path]] = {
    make.__name__: make
    for make in (
        llava,
        llava_next,
        llava_onevision,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        internvl,
        idefics3,
        smolvlm,
        paligemma,
        gemma3,
        mllama,
    )
}
"""Family of models of images and text → writes a folder of it."""
