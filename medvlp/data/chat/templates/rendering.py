"""Conversations as text by a chat template, and thoughts told from answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Message = dict[str, str]
Span = tuple[int, int]

_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
DATE = "26 Jul 2024"
"""The date that Llama 3.1's template writes into every system turn; Llama 3.2's and SmolLM3's would write the day of
rendering, and token counts, hence packing, would change from day to day."""


def split_thought(text: str) -> tuple[str, str]:
    """(thought, answer) of an assistant's words: `<think>` … `</think>`, which the prompt may have opened, and what follows.

    The thought is "" where there is none, or an empty one.
    """
    thought, closed, answer = text.partition("</think>")
    if not closed or thought.lstrip().rpartition("<think>")[0]:  # words before the thoughts are no thoughts
        return "", text
    return thought.lstrip().removeprefix("<think>").strip(), answer.lstrip()


def render(
    tokenizer: Any, template: str, messages: Sequence[Message], add_generation_prompt: bool = False, **variables: Any
) -> tuple[str, list[Span]]:
    """The conversation as text, and the character spans that generation markers enclose.

    variables: of the template, such as enable_thinking.

    Raises:
        jinja2.TemplateError: the template refuses the conversation, or fails on it.
    """
    from jinja2 import TemplateRuntimeError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered: Any = render_jinja_template(  # typed as one string, but it is (texts, spans of each)
            conversations=[list(messages)],
            chat_template=template,
            return_assistant_tokens_mask=bool(_MARKER.search(template)),  # the library warns where there is none
            add_generation_prompt=add_generation_prompt,
            date_string=DATE,
            **variables,
            **tokenizer.special_tokens_map,
        )
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:  # a template is a program of its publisher's
        raise TemplateRuntimeError(f"{type(error).__name__}: {error}") from error
    texts, spans = rendered
    return texts[0], spans[0] if spans else []
