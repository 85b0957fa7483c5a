"""Small fast tokenizers, one for every family of chat templates, made without a network in a few milliseconds."""

import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "Is the heart enlarged? Yes, the cardiac silhouette is enlarged.",
    "Where is the lesion? It is in the left upper lobe of the lung.",
    "What does the image show? A chest x-ray with a small pleural effusion.",
    "Answer briefly. No. No fracture is seen, and the mediastinum is not widened.",
    "Findings:\n\nNo pleural effusion.\n\n\nImpression:\n\nNormal.  \n\n",  # so that newlines merge, as in real vocabularies
    "You are a helpful assistant. user system assistant model USER: ASSISTANT: [INST] [/INST] <<SYS>>",
]


def _chatml(system: str = "") -> str:
    first = "{% if loop.first and message.role != 'system' %}<|im_start|>system\n" + system + "<|im_end|>\n{% endif %}"
    turn = "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{{ '\n' }}"
    ask = "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
    return "{% for message in messages %}" + (first if system else "") + turn + "{% endfor %}" + ask


_LLAMA_3_TURN = "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content.strip() }}<|eot_id|>"
_LLAMA_3_ASK = "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{% endif %}"
_ALTERNATE = "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
_SPLIT_SYSTEM = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}"
)
_GEMMA_TURN = (
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% if system is defined and loop.first %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content | trim }}<end_of_turn>{{ '\n' }}"
)
_GEMMA_ASK = "{% if add_generation_prompt %}<start_of_turn>model{{ '\n' }}{% endif %}"

_MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST]BLANK"
    "{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}{{ m.content }}[/INST]"
    "{% else %}BLANK{{ ANSWER + eos_token }}{% endif %}{% endfor %}"
)
_MISTRAL_SYSTEM = (
    "{% if system is not defined %}{% set system = 'You are Mistral, of {{ today }}. \"ok\"' %}{% endif %}"
    "{{ bos_token }}[SYSTEM_PROMPT]BLANK{{ system }}[/SYSTEM_PROMPT]{% for m in messages %}"
    "{% if m.role == 'user' %}[INST]BLANK{{ m.content }}[/INST]{% else %}BLANK{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
_SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% set mode = '/think' if enable_thinking else '/no_think' %}"
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: {{ strftime_now('%d %B %Y') }}\n"
    "Reasoning Mode: {{ mode }}\n\n## Custom Instructions\n\n"
    "{% set custom = messages[0].content.rstrip() if messages[0].role == 'system' else '' %}"
    "{{ custom or ('You think in two sections.' if enable_thinking else 'You are brief.') }}\n\n<|im_end|>\n"
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% endif %}"
    "{% if m.role == 'assistant' %}{% generation %}<|im_start|>assistant\n"
    "{{ ('' if enable_thinking else '<think>\n\n</think>\n') + m.content.lstrip('\n') }}<|im_end|>\n"
    "{% endgeneration %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}"
    "{% if not enable_thinking %}<think>\n\n</think>{{ '\n' }}{% endif %}{% endif %}"
)
_WITHOUT_THOUGHT = "{% set c = m.content.split('</think>')[-1] %}"


def _qwen3(asked: str = "") -> str:
    return (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}"
        + _WITHOUT_THOUGHT
        + "{% set t = m.content.split('</think>')[0].split('<think>')[-1].strip('\n') if '</think>' in m.content else '' %}"
        "{% if loop.last %}<think>\n{{ t }}\n</think>\n\n{{ c.lstrip('\n') }}"
        "{% else %}{{ c }}{% endif %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}"
        + (asked or "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}")
        + "{% endif %}"
    )


PUBLISHED: dict[str, str] = {
    "chatml": _chatml(),
    "smollm2": _chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "qwen2": _chatml("You are a helpful assistant."),
    "qwen2.5": _chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "llama-2": _SPLIT_SYSTEM
    + "{% for m in messages %}"
    + _ALTERNATE
    + "{% if m.role == 'user' %}{% set words = m.content %}"
    "{% if system is defined and loop.first %}{% set words = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + words %}{% endif %}"
    "{{ bos_token }}[INST] {{ words.strip() }} [/INST]"
    "{% else %} {{ m.content.strip() }} {{ eos_token }}{% endif %}{% endfor %}",
    "llama-3": "{{ bos_token }}{% for m in messages %}" + _LLAMA_3_TURN + "{% endfor %}" + _LLAMA_3_ASK,
    "llama-3.1": _SPLIT_SYSTEM + "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: {{ date_string or '26 Jul 2024' }}\n\n"
    "{{ system.strip() if system is defined }}<|eot_id|>{% for m in messages %}"
    + _LLAMA_3_TURN
    + "{% endfor %}"
    + _LLAMA_3_ASK,
    "mistral": "{{ bos_token }}{% for m in messages %}"
    + _ALTERNATE
    + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content + eos_token }} {% endif %}{% endfor %}",
    "mixtral": "{{ bos_token }}{% for m in messages %}"
    + _ALTERNATE
    + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
    "vicuna_v1": _SPLIT_SYSTEM
    + "{{ bos_token }}{% if system is defined %}{{ system }}{% else %}A chat between a curious "
    "user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the "
    "user's questions.{% endif %} {% for m in messages %}"
    + _ALTERNATE
    + "{% if m.role == 'user' %}USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "gemma": "{{ bos_token }}{% for m in messages %}" + _ALTERNATE + _GEMMA_TURN + "{% endfor %}" + _GEMMA_ASK,
    "gemma-3": _SPLIT_SYSTEM
    + "{{ bos_token }}{% for m in messages %}"
    + _ALTERNATE
    + _GEMMA_TURN
    + "{% endfor %}"
    + _GEMMA_ASK,
    "phi-3": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ '\n' }}{% else %}{{ eos_token }}{% endif %}",
    "phi-4-mini": "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}",
    "phi-4": "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}",
    "llama-4": _SPLIT_SYSTEM + "{{ bos_token }}{% if system is defined %}<|header_start|>system<|header_end|>\n\n"
    "{{ system.strip() }}<|eot|>{% endif %}{% for m in messages %}<|header_start|>{{ m.role }}<|header_end|>\n\n"
    "{{ m.content }}<|eot|>{% endfor %}{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>{{ '\n\n' }}"
    "{% endif %}",
    "mistral-v3": _SPLIT_SYSTEM + _MISTRAL.replace("BLANK", " ").replace("ANSWER", "m.content.strip()"),
    "mistral-v3-tekken": _SPLIT_SYSTEM + _MISTRAL.replace("BLANK", "").replace("ANSWER", "m.content"),
    "mistral-v7": _SPLIT_SYSTEM + _MISTRAL_SYSTEM.replace("BLANK", " "),
    "mistral-v7-tekken": _SPLIT_SYSTEM + _MISTRAL_SYSTEM.replace("BLANK", ""),
    "qwen3": _qwen3(),
    "qwen3-thinking": _qwen3("<think>{{ '\n' }}"),
    "smollm3": _SMOLLM3,
    "deepseek-r1": _SPLIT_SYSTEM
    + "{{ bos_token }}{% if system is defined %}{{ system }}{% endif %}{% for m in messages %}"
    "{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% else %}"
    + _WITHOUT_THOUGHT
    + "<｜Assistant｜>{{ c + eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<｜Assistant｜><think>{{ '\n' }}{% endif %}",
    "zephyr": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content + eos_token }}{{ '\n' }}"
    "{% if loop.last and add_generation_prompt %}<|assistant|>{{ '\n' }}{% endif %}{% endfor %}",
}
"""Family → a template without generation markers that renders what the published one renders."""

_ROLE_TAGS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
_SPECIAL: dict[str, tuple[str, str, list[str]]] = {
    "chatml": ("<|im_start|>", "<|im_end|>", []),
    "llama-3": ("<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "gemma": ("<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"]),
    "phi": ("<s>", "<|endoftext|>", _ROLE_TAGS),
    "sentencepiece": ("<s>", "</s>", []),
    "phi-4": ("<|endoftext|>", "<|im_end|>", ["<|im_start|>", "<|im_sep|>"]),
    "llama-4": ("<|begin_of_text|>", "<|eot|>", ["<|header_start|>", "<|header_end|>"]),
    "mistral": ("<s>", "</s>", ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ["<｜User｜>", "<｜Assistant｜>"]),
}
_NOT_SPECIAL = {
    "qwen3": ["<think>", "</think>"],
    "qwen3-thinking": ["<think>", "</think>"],
    "smollm3": ["<think>", "</think>"],
}
"""Tokens of their own that are not special ones, as the families have them."""
_KIND = {
    **dict.fromkeys(("chatml", "smollm2", "qwen2", "qwen2.5", *_NOT_SPECIAL), "chatml"),
    **dict.fromkeys(("mistral-v3", "mistral-v3-tekken", "mistral-v7", "mistral-v7-tekken"), "mistral"),
    **{"phi-4": "phi-4", "llama-4": "llama-4", "deepseek-r1": "deepseek"},
    **dict.fromkeys(("llama-3", "llama-3.1"), "llama-3"),
    **dict.fromkeys(("gemma", "gemma-3"), "gemma"),
    **dict.fromkeys(("phi-3", "phi-4-mini"), "phi"),
    **dict.fromkeys(("llama-2", "mistral", "mixtral", "vicuna_v1", "zephyr"), "sentencepiece"),
}


# Words, numbers and newlines apart: unlike GPT-2's, it keeps two newlines together whatever follows them.
_LLAMA_3_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tiny_tokenizer(family: str = "chatml", vocabulary: int = 500) -> PreTrainedTokenizerFast:
    """A tokenizer with the family's special tokens, `<image>`, a padding token, and the family's template without markers.

    Families of Llama 2's descent get a SentencePiece-like model (a space before the text, bytes for unknown characters),
    the others byte-level BPE.
    """
    kind = _KIND[family]
    bos, eos, more = _SPECIAL[kind]
    if kind == "sentencepiece" or family in ("mistral-v3", "mistral-v7"):
        backend = _sentencepiece_like(vocabulary)
    else:
        with_words = family.startswith(("llama-3", "llama-4", "qwen", "deepseek"))
        backend = _byte_level(vocabulary, words=_LLAMA_3_WORDS if with_words else "")
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in (bos, eos, *more, "<pad>", "<image>")])
    backend.add_tokens([AddedToken(token, normalized=False) for token in _NOT_SPECIAL.get(family, [])])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token="<pad>", clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = PUBLISHED[family]
    return tokenizer


def _byte_level(vocabulary: int, words: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if words:
        split = pre_tokenizers.Split(Regex(words), "isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    )
    return tokenizer


def _sentencepiece_like(vocabulary: int) -> Tokenizer:
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    # Llama 2 spells newlines in bytes, so nothing merges with them; "])" is one of its tokens.
    sentences = [*(sentence.replace("\n", " ") for sentence in SENTENCES), "(see [1]) ([2]) ([3])"]
    trained.train_from_iterator(sentences, trainers.BpeTrainer(vocab_size=vocabulary - 257, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", *byte_tokens, *sorted(learned["vocab"], key=learned["vocab"].get)]
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(
        models.BPE({t: i for i, t in enumerate(tokens)}, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer
