"""Chat templates of known families, in Jinja, with generation markers around each answer and the token that ends it.

Without the markers they render what the family's published template renders for turns of plain text, but for those in
`RECOGNISED`: families whose own rendering of an earlier turn depends on what follows it.
"""

import re

from medvlp.data.chat.templates.reasoning import PUBLISHED, REASONING

CHATML_TURNS = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\n' }}
{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}
{{ '\n' }}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""


def _chatml(system: str = "") -> str:
    """ChatML; `system` is what a family says where the conversation has no system turn."""
    if not system:
        return CHATML_TURNS
    default = "{{ '<|im_start|>system\n" + system + "<|im_end|>\n' }}"
    return "{%- if messages[0]['role'] != 'system' -%}\n" + default + "\n{%- endif -%}\n" + CHATML_TURNS


LLAMA_3_TURNS = """\
{%- for message in turns -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ (message['content'] | trim) + '<|eot_id|>' }}{%- endgeneration -%}
{%- else -%}
{{ (message['content'] | trim) + '<|eot_id|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif -%}
"""

LLAMA_3 = "{{ bos_token }}\n{%- set turns = messages -%}\n" + LLAMA_3_TURNS

LLAMA_3_1 = (
    """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system, turns = messages[0]['content'] | trim, messages[1:] -%}
{%- else -%}
{%- set system, turns = '', messages -%}
{%- endif -%}
{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n' }}
{{- 'Today Date: ' + (date_string | default('26 Jul 2024')) + '\n\n' + system + '<|eot_id|>' }}
"""
    + LLAMA_3_TURNS
)

ALTERNATE = """\
{%- for message in turns -%}
{%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
{{ raise_exception('turns must alternate, user first; a system turn is not known here') }}
{%- endif -%}
{%- endfor -%}
"""

LLAMA_2 = (
    """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system, turns = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n', messages[1:] -%}
{%- else -%}
{%- set system, turns = '', messages -%}
{%- endif -%}
"""
    + ALTERNATE
    + """\
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ ' ' + (message['content'] | trim) + ' ' + eos_token }}{%- endgeneration -%}
{%- else -%}
{{ bos_token + '[INST] ' + (((system if loop.first else '') + message['content']) | trim) + ' [/INST]' }}
{%- endif -%}
{%- endfor -%}
"""
)


def _mistral(after_answer: str) -> str:
    return (
        "{%- set turns = messages -%}\n"
        + ALTERNATE
        + """\
{{ bos_token }}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + eos_token }}{%- endgeneration -%}
{{ '"""
        + after_answer
        + """' }}
{%- else -%}
{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- endif -%}
{%- endfor -%}
"""
    )


SYSTEM_FIRST = """\
{%- set system = '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system, messages = messages[0]['content'] + '\n\n', messages[1:] -%}
{%- endif -%}
"""


def _mistral_v3(blank: str, answer: str, question: str = "loop.first") -> str:
    """[INST] and [/INST] as control tokens; the system turn stands before the first question.

    blank: between the tokens and the words. question: before which the system turn stands.
    """
    return f"""\
{SYSTEM_FIRST}\
{{{{ bos_token }}}}
{{%- for message in messages -%}}
{{%- if message['role'] == 'assistant' -%}}
{{%- generation -%}}{{{{ '{blank}' + {answer} + eos_token }}}}{{%- endgeneration -%}}
{{%- else -%}}
{{{{ '[INST]{blank}' + (system if {question} else '') + message['content'] + '[/INST]' }}}}
{{%- endif -%}}
{{%- endfor -%}}
"""


def _mistral_v7(blank: str) -> str:
    """[SYSTEM_PROMPT] too is a control token; `default_system` is what the family says without a system turn."""
    return f"""\
{{%- if messages[0]['role'] == 'system' -%}}
{{%- set system, messages = messages[0]['content'], messages[1:] -%}}
{{%- else -%}}
{{%- set system = default_system | default('') -%}}
{{%- endif -%}}
{{{{ bos_token + ('[SYSTEM_PROMPT]{blank}' + system + '[/SYSTEM_PROMPT]' if system else '') }}}}
{{%- for message in messages -%}}
{{%- if message['role'] == 'assistant' -%}}
{{%- generation -%}}{{{{ '{blank}' + message['content'] + eos_token }}}}{{%- endgeneration -%}}
{{%- else -%}}
{{{{ '[INST]{blank}' + message['content'] + '[/INST]' }}}}
{{%- endif -%}}
{{%- endfor -%}}
"""


LLAMA_4 = """\
{{ bos_token }}
{%- for message in messages -%}
{{ '<|header_start|>' + message['role'] + '<|header_end|>\n\n' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + '<|eot|>' }}{%- endgeneration -%}
{%- else -%}
{{ (message['content'] | trim if message['role'] == 'system' else message['content']) + '<|eot|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|header_start|>assistant<|header_end|>\n\n' }}{%- endif -%}
"""

PHI_4 = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '<|im_sep|>' }}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}
{%- else -%}
{{ message['content'] + '<|im_end|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant<|im_sep|>' }}{%- endif -%}
"""

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user\\'s questions."
)
VICUNA_V1 = (
    """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system, turns = messages[0]['content'], messages[1:] -%}
{%- else -%}
{%- set system, turns = '"""
    + VICUNA_SYSTEM
    + """', messages -%}
{%- endif -%}
"""
    + ALTERNATE
    + """\
{{ bos_token + system + ' ' }}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{{ 'ASSISTANT:' }}
{%- generation -%}{{ ' ' + message['content'] + eos_token }}{%- endgeneration -%}
{%- else -%}
{{ 'USER: ' + message['content'] + ' ' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""
)

GEMMA_TURNS = (
    ALTERNATE
    + """\
{{ bos_token }}
{%- for message in turns -%}
{%- if message['role'] == 'assistant' -%}
{{ '<start_of_turn>model\n' }}
{%- generation -%}{{ (message['content'] | trim) + '<end_of_turn>' }}{%- endgeneration -%}
{{ '\n' }}
{%- else -%}
{{ '<start_of_turn>user\n' + (system if loop.first else '') + (message['content'] | trim) + '<end_of_turn>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""
)
GEMMA = "{%- set system, turns = '', messages -%}\n" + GEMMA_TURNS
GEMMA_3 = (
    """\
{%- if messages[0]['role'] == 'system' -%}
{%- set system, turns = messages[0]['content'] + '\n\n', messages[1:] -%}
{%- else -%}
{%- set system, turns = '', messages -%}
{%- endif -%}
"""
    + GEMMA_TURNS
)


def _role_tags(after_role: str, end: str, after_end: str, last: str = "") -> str:
    """<|role|>, the words, an end token; `last` stands after a conversation that asks for nothing more."""
    return f"""\
{{%- for message in messages -%}}
{{{{ '<|' + message['role'] + '|>{after_role}' }}}}
{{%- if message['role'] == 'assistant' -%}}
{{%- generation -%}}{{{{ message['content'] + {end} }}}}{{%- endgeneration -%}}
{{%- else -%}}
{{{{ message['content'] + {end} }}}}
{{%- endif -%}}
{{{{ '{after_end}' }}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{ '<|assistant|>{after_role}' }}}}{{%- else -%}}{{{{ {last or "''"} }}}}{{%- endif -%}}
"""


FAMILIES: dict[str, str] = {
    "chatml": _chatml(),
    "smollm2": _chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
    "qwen2": _chatml("You are a helpful assistant."),
    "qwen2.5": _chatml("You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "llama-2": LLAMA_2,
    "llama-3": LLAMA_3,
    "llama-3.1": LLAMA_3_1,
    "mistral": _mistral(after_answer=" "),
    "mixtral": _mistral(after_answer=""),
    "vicuna_v1": VICUNA_V1,
    "gemma": GEMMA,
    "gemma-3": GEMMA_3,
    "phi-3": _role_tags(r"\n", "'<|end|>'", r"\n", last="eos_token"),
    "phi-4-mini": _role_tags("", "'<|end|>'", "", last="eos_token"),
    "zephyr": _role_tags(r"\n", "eos_token", r"\n"),
    "phi-4": PHI_4,
    "llama-4": LLAMA_4,
    "mistral-v3": _mistral_v3(" ", "(message['content'] | trim)"),
    "mistral-v3-tekken": _mistral_v3("", "message['content']"),
    "mistral-v7": _mistral_v7(" "),
    "mistral-v7-tekken": _mistral_v7(""),
    **REASONING,
}
"""Family → template with generation markers."""

RECOGNISED: dict[str, str] = {
    "mistral-v3": _mistral_v3(" ", "(message['content'] | trim)", question="loop.last"),
    "mistral-v3-tekken": _mistral_v3("", "message['content']", question="loop.last"),
    **PUBLISHED,
}
"""Family → what its own template renders, where training needs another: Mistral's moves the system turn to the last question."""

DEFAULT_SYSTEM = {
    "smollm3": re.compile(r"## Custom Instructions\n\n(.+?)\n\n<\|im_end\|>", re.DOTALL),
    "mistral-v7": re.compile(r"\[SYSTEM_PROMPT\] (.+?)\[/SYSTEM_PROMPT\]", re.DOTALL),
    "mistral-v7-tekken": re.compile(r"\[SYSTEM_PROMPT\](.+?)\[/SYSTEM_PROMPT\]", re.DOTALL),
}
"""Family → where a tokenizer's own template says what stands for a system turn; models of one family differ in it."""
