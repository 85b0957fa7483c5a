"""Chat templates of families that think before they answer, `<think>` … `</think>`, with generation markers.

What the families publish takes thoughts out of earlier answers, so that the text of a conversation changes with every
turn that is added; training needs every prompt to be a prefix of what is trained on. Here each answer has its thoughts
(or an empty block) in place. `PUBLISHED` has what the families' own templates render, by which they are recognised.

With `enable_thinking` a prompt ends where thoughts begin; else it ends behind the empty block that says "no thoughts".
"""

SPLIT_THOUGHT = r"""{%- set answer, thought = message['content'], '' -%}
{%- if message['reasoning_content'] is string -%}
{%- set thought = message['reasoning_content'] -%}
{%- elif '</think>' in answer -%}
{%- set thought = answer.split('</think>')[0].split('<think>')[-1] -%}
{%- set answer = answer.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
{%- set thought = thought.strip('\n') -%}
"""
"""`answer` and `thought` of an assistant's message, which may hold both, or thoughts as `reasoning_content`."""

THINKS = "enable_thinking is defined and enable_thinking"


def _turns(
    user: str,
    start: str,
    end: str,
    thought_end: str,
    prompt_opens: bool = False,
    always: bool = True,
    between: str = "",
) -> str:
    """The turns of a conversation.

    user: an expression, the turn of a user or of a system. start, end: expressions before and behind an answer. thought_end:
    white space behind `</think>`. prompt_opens: the prompt itself opens the thoughts. always: an answer without thoughts has an
    empty block. between: what stands behind a whole answer.
    """
    opening = r"<think>\n" if prompt_opens else ""
    block = ("" if prompt_opens else r"'<think>\n' + ") + r"thought + '\n</think>" + thought_end + "'"
    thinking = block if always else f"({block} if thought else '')"
    return f"""\
{{%- for message in messages -%}}
{{%- if message['role'] == 'assistant' -%}}
{SPLIT_THOUGHT}\
{{%- if {THINKS} -%}}
{{{{ {start}{f" + '{opening}'" if prompt_opens else ""} }}}}
{{%- set answer = answer.lstrip('\\n') -%}}
{{%- generation -%}}{{{{ {thinking} + answer + {end} }}}}{{%- endgeneration -%}}
{{%- else -%}}
{{{{ {start} + '<think>\\n' + thought + '\\n</think>{thought_end}' }}}}
{{%- generation -%}}{{{{ answer.lstrip('\\n') + {end} }}}}{{%- endgeneration -%}}
{{%- endif -%}}
{{{{ '{between}' }}}}
{{%- else -%}}
{{{{ {user} }}}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}
{{{{ {start} + ('{opening}' if {THINKS} else '<think>\\n\\n</think>{thought_end}') }}}}
{{%- endif -%}}
"""


_CHATML_USER = r"'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'"
_CHATML_START = r"'<|im_start|>assistant\n'"


def _chatml(thought_end: str, prompt_opens: bool = False, always: bool = True) -> str:
    return _turns(_CHATML_USER, _CHATML_START, "'<|im_end|>'", thought_end, prompt_opens, always, between=r"\n")


_SMOLLM3_SYSTEM = """\
{%- set thinks = enable_thinking is defined and enable_thinking -%}
{%- set custom = '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set custom = messages[0]['content'].replace('/no_think', '').replace('/think', '').rstrip() -%}
{%- set messages = messages[1:] -%}
{%- endif -%}
{%- set plain = 'You are a helpful AI assistant named SmolLM, trained by Hugging Face.' -%}
{%- set custom = custom or default_system | default(plain) -%}
{{ '<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: ' }}
{{- (date_string | default('26 Jul 2024')).replace('Jul ', 'July ') }}
{{- '\nReasoning Mode: ' + ('/think' if thinks else '/no_think') + '\n\n## Custom Instructions\n\n' }}
{{- custom + '\n\n<|im_end|>\n' }}
"""

_R1_SYSTEM = """\
{%- set system = '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system, messages = messages[0]['content'], messages[1:] -%}
{%- endif -%}
{{ bos_token + system }}
"""

REASONING: dict[str, str] = {
    "qwen3": _chatml(r"\n\n"),
    "qwen3-thinking": _chatml(r"\n\n", prompt_opens=True),
    "smollm3": _SMOLLM3_SYSTEM + _chatml(r"\n", always=False),
    "deepseek-r1": _R1_SYSTEM
    + _turns(
        "'<｜User｜>' + message['content']", "'<｜Assistant｜>'", "eos_token", thought_end=r"\n\n", prompt_opens=True
    ),
}
"""Family → template with generation markers; see `families.FAMILIES`."""


def _published(user: str, start: str, last: str, earlier: str, end: str, opening: str = "") -> str:
    """What a family renders without thoughts of earlier answers."""
    return f"""\
{{%- for message in messages -%}}
{{%- if message['role'] == 'assistant' -%}}
{SPLIT_THOUGHT}\
{{{{ {start} + ({last} if loop.last else {earlier}) + {end} }}}}
{{%- else -%}}
{{{{ {user} }}}}
{{%- endif -%}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{ {start} + '{opening}' }}}}{{%- endif -%}}
"""


_QWEN3 = {
    "user": _CHATML_USER,
    "start": _CHATML_START,
    "last": r"'<think>\n' + thought + '\n</think>\n\n' + answer.lstrip('\n')",
    "earlier": "answer",
    "end": r"'<|im_end|>\n'",
}
_ALWAYS_THINKING = "{%- set enable_thinking = true -%}\n"

PUBLISHED: dict[str, str] = {
    "qwen3": _published(**_QWEN3),
    "qwen3-thinking": _published(**_QWEN3, opening=r"<think>\n"),
    "smollm3": _ALWAYS_THINKING + REASONING["smollm3"],
    "deepseek-r1": _R1_SYSTEM
    + _published(
        "'<｜User｜>' + message['content']", "'<｜Assistant｜>'", "answer", "answer", "eos_token", r"<think>\n"
    ),
}
"""Family → what its own template renders by default."""
