"""The keys of a model's description that are passed on, and what may stand under each; see `descriptions`."""

import re

LONGEST = 1000
"""Characters of a text, elements of a list, and layers of a tower."""

SIDES = (int, [int])
CLEAN = ("whitespace", "canonicalize", "lower")

TRANSFORMER = {
    "layers": range(LONGEST),
    "width": int,
    "mlp_ratio": float,
    "ls_init_value": float,
    "final_ln_after_pool": bool,
    "pool_type": str,
    "output_tokens": bool,
    "act_kwargs": {"approximate": str},
    "norm_kwargs": {"eps": float},
    "block_type": str,
    **dict.fromkeys(
        ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), bool
    ),
}
VISION = {
    **TRANSFORMER,
    "layers": (range(LONGEST), [range(LONGEST)]),
    "head_width": int,
    "patch_size": SIDES,
    "image_size": SIDES,
    "patch_dropout": float,
    "attentional_pool": bool,
    "attn_pooler_queries": int,
    "attn_pooler_heads": int,
    "no_ln_pre": bool,
    "pos_embed_type": str,
    "timm_model_name": str,
    "timm_model_pretrained": bool,
    "timm_pool": str,
    "timm_proj": str,
    "timm_proj_bias": bool,
    "timm_drop": float,
    "timm_drop_path": float,
}
TEXT = {
    **TRANSFORMER,
    "context_length": int,
    "vocab_size": int,
    "heads": int,
    "embed_cls": bool,
    "pad_id": int,
    "eos_id": int,
    "no_causal_mask": bool,
    "proj_bias": bool,
    "proj_type": str,
    "tokenizer_mode": ("clips",),
    "tokenizer_kwargs": {"clean": CLEAN, "strip_sep_token": bool},
    "hf_tokenizer_name": str,
    "hf_model_name": str,
    "hf_model_pretrained": bool,
    "hf_proj_type": str,
    "hf_pooler_type": str,
}
CLIP = {
    "embed_dim": int,
    "quick_gelu": bool,
    "init_logit_scale": float,
    "init_logit_bias": float,
    "nonscalar_logit_scale": bool,
    "custom_text": bool,
    "vision_cfg": VISION,
    "text_cfg": TEXT,
    "multimodal_cfg": {**TEXT, "dim_head": int, "n_queries": int, "attn_pooler_heads": int},
}
PREPROCESS = {
    "size": SIDES,
    "mode": ("RGB",),
    "mean": [float],
    "std": [float],
    "interpolation": ("bicubic", "bilinear", "random"),
    "resize_mode": ("shortest", "longest", "squash"),
    "fill_color": int,
}
"""open_clip's names. A type; a tuple of choices or of rules; a list whose elements follow one rule; a mapping."""

TOKENIZER_KEYS = re.compile(
    r".*_token|added_tokens_decoder|(additional|extra|model_specific)_special_tokens|split_special_tokens|tokenizer_class"
    r"|model_max_length|max_length|stride|(padding|truncation)_side|truncation_strategy|pad_to_multiple_of"
    r"|pad_token_type_id|model_input_names|clean_up_tokenization_spaces|add_prefix_space|do_lower_case|strip_accents"
    r"|tokenize_chinese_chars|do_basic_tokenize|never_split|legacy|errors|backend|use_default_system_prompt|chat_template"
)
"""Of tokenizer_config.json, by a pattern."""
PROCESSOR_KEYS = {
    *("image_processor_type", "processor_class", "size", "crop_size", "size_divisor", "resample", "default_to_square"),
    *("image_mean", "image_std", "rescale_factor", "data_format", "input_data_format", "image_seq_length", "pad_size"),
    *("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad"),
}
"""Of preprocessor_config.json."""
CONFIG_EXTRAS = {"timm_wrapper": {"hidden_size", "image_size", "num_classes"}}
"""What is written into a configuration next to its class's fields."""
CONFIG_WITHHELD = {"timm_wrapper": {"model_args"}}
"""Fields whose values become arguments of another library."""
