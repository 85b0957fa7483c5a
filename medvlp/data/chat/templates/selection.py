"""Selection of a chat template: a file, a family, or the family that a tokenizer's own template renders like.

Most published templates carry no generation markers, so nothing tells an answer from a question in what they render;
the families' templates of ours do. A tokenizer's family is recognised by what its own template renders, never by how
it is written: ours must give the same text for every probe.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from medvlp.data.chat.templates.families import DEFAULT_SYSTEM, FAMILIES, RECOGNISED
from medvlp.data.chat.templates.rendering import DATE, Message, Span, render, split_thought
from medvlp.errors import UserError


class ChatTemplateError(UserError):
    """A tokenizer has no template that says which words are the assistant's, or the chosen one does not."""


MAX_TEMPLATE_BYTES = 65536

THOUGHTS = ("dropped", "kept", "supervised")
"""What becomes of thoughts, `<think>` … `</think>` before an answer: dropped, read, or trained on too."""

SYSTEM_TURNS = {
    "": "",
    "merge": """\
{%- if messages[0]['role'] == 'system' -%}
{%- set asked = messages[0]['content'] + '\n\n' + messages[1]['content'] -%}
{%- set messages = [{'role': 'user', 'content': asked}] + messages[2:] -%}
{%- endif -%}
""",
    "drop": "{%- set messages = messages[1:] if messages[0]['role'] == 'system' else messages -%}\n",
}
"""model.language.system → what goes before a template."""

# White space at the edges, so that templates that trim differ from those that do not.
_SYSTEM = {"role": "system", "content": "Answer briefly. "}
_QUESTION = {"role": "user", "content": " Is the heart enlarged?\n"}
_ANSWER = {"role": "assistant", "content": " Yes, ✓.\n"}
_FOLLOW_UP = {"role": "user", "content": "Where is it?"}
_SHORT_ANSWER = {"role": "assistant", "content": "On the left."}
PROBES: tuple[list[Message], ...] = (
    [_QUESTION],
    [_QUESTION, _ANSWER],
    [_FOLLOW_UP, _SHORT_ANSWER, _QUESTION],
    [_QUESTION, _ANSWER, _FOLLOW_UP, _SHORT_ANSWER],
    [_SYSTEM, _FOLLOW_UP],
    [_SYSTEM, _QUESTION, _ANSWER, _FOLLOW_UP, _SHORT_ANSWER],
)


def dated(template: str) -> str:
    """A template that would write the day of rendering, with `DATE` in its place."""
    if "strftime_now" not in template:
        return template
    day = datetime.strptime(DATE, "%d %b %Y")
    parts = "".join(f".replace('%{form}', '{day.strftime(f'%{form}')}')" for form in "dmbBYyaAjHMS")
    return f"{{%- macro strftime_now(form) -%}}{{{{ form{parts} }}}}{{%- endmacro -%}}\n{template}"


def chat_template(tokenizer: Any, choice: str = "", thoughts: str = "", system: str = "") -> tuple[str, str]:
    """The template to train with, as (name, Jinja text with generation markers).

    Args:
        choice: a family of `FAMILIES`, or the path of a .jinja file; empty takes the tokenizer's own template where it
            has markers around the answers (name "own"), else the family's that renders the same text.
        thoughts: one of `THOUGHTS`; with kept and supervised, prompts of a family that thinks end where thoughts begin.
        system: "merge" puts a system turn before the first question, "drop" takes it away; see `SYSTEM_TURNS`.

    Raises:
        ChatTemplateError: no template, an unknown one, or one whose markers are not around the answers.
    """
    thinking = thoughts in ("kept", "supervised")
    name, template = _choose(tokenizer, choice, thinking)
    _check_markers(tokenizer, name, _thinking(template, thinking))
    return name, SYSTEM_TURNS[system] + _thinking(template, thinking)


def _thinking(template: str, thinking: bool) -> str:
    """A template that has a mode without thoughts, with this one as its default."""
    if "enable_thinking" not in template:
        return template
    value = "true" if thinking else "false"
    return f"{{%- set enable_thinking = enable_thinking | default({value}) -%}}\n{template}"


def _published(tokenizer: Any) -> str:
    """The tokenizer's own template; empty where it has none, or several and none by default."""
    templates = tokenizer.chat_template
    if not templates or (isinstance(templates, dict) and "default" not in templates):
        return ""
    return dated(tokenizer.get_chat_template())


def _choose(tokenizer: Any, choice: str, thinking: bool) -> tuple[str, str]:
    published = _published(tokenizer)
    if choice in FAMILIES:
        return choice, _with_default(tokenizer, choice, published, thinking) + FAMILIES[choice]
    if choice.endswith(".jinja"):
        return Path(choice).name, dated(_read(Path(choice)))
    if choice:
        raise ChatTemplateError(f"model.language.template={choice} is not known; {_CHOICES}")
    if not published:
        raise ChatTemplateError(f"the tokenizer {tokenizer.name_or_path!r} has no chat template; {_CHOICES}")
    misplaced: ChatTemplateError | None = None
    if _spans(tokenizer, published):
        try:
            _check_markers(tokenizer, "own", _thinking(published, thinking))
            return "own", published
        except ChatTemplateError as error:  # SmolLM3's enclose the header of an answer, too
            misplaced = error
    expected = _rendered_probes(tokenizer, published)
    for name, template in FAMILIES.items():
        rendered = _with_default(tokenizer, name, published) + RECOGNISED.get(name, template)
        if _rendered_probes(tokenizer, rendered) == expected:
            return name, _with_default(tokenizer, name, published, thinking) + template
    if misplaced:
        raise misplaced
    raise ChatTemplateError(
        f"the chat template of the tokenizer {tokenizer.name_or_path!r} has no {{% generation %}} markers, and no known "
        f"family renders the same text; {_CHOICES}"
    )


_CHOICES = (
    f"set model.language.template=<family>, one of {', '.join(FAMILIES)}, or model.language.template=<path>.jinja, a "
    "template that has {% generation %} … {% endgeneration %} around each answer and the token that ends it"
)


def _with_default(tokenizer: Any, family: str, published: str, thinking: bool | None = None) -> str:
    """What the tokenizer's own template says where there is no system turn, for families whose models differ in it."""
    pattern = DEFAULT_SYSTEM.get(family)
    if pattern is None or not published:
        return ""
    from jinja2 import TemplateError

    mode = {} if thinking is None else {"enable_thinking": thinking}
    try:
        match = pattern.search(render(tokenizer, published, [_QUESTION], **mode)[0])
    except TemplateError:
        match = None
    return f"{{%- set default_system = {json.dumps(match[1], ensure_ascii=False)} -%}}\n" if match else ""


def _read(path: Path) -> str:
    if not path.is_file():
        raise ChatTemplateError(f"model.language.template={path}: there is no such file")
    if path.stat().st_size > MAX_TEMPLATE_BYTES:
        raise ChatTemplateError(
            f"model.language.template={path} has more than {MAX_TEMPLATE_BYTES} bytes; a chat template has a few hundred"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ChatTemplateError(f"model.language.template={path} is not UTF-8 (byte {error.start})") from None


def _spans(tokenizer: Any, template: str) -> list[Span]:
    from jinja2 import TemplateError

    try:
        return render(tokenizer, template, [_FOLLOW_UP, _SHORT_ANSWER])[1]
    except TemplateError:
        return []


def _rendered_probes(tokenizer: Any, template: str) -> list[str | None]:
    """What every probe gives, without and with a generation prompt; None where the template refuses it."""
    from jinja2 import TemplateError

    texts: list[str | None] = []
    for probe in PROBES:
        for add_generation_prompt in (False, True):
            try:
                texts.append(render(tokenizer, template, probe, add_generation_prompt)[0])
            except TemplateError:
                texts.append(None)
    return texts


def _check_markers(tokenizer: Any, name: str, template: str) -> None:
    """Every answer is marked, its end is one token, and a prompt is a prefix of what is trained on."""
    from jinja2 import TemplateError

    turns = [_FOLLOW_UP, _SHORT_ANSWER, _QUESTION, _ANSWER]
    try:
        text, spans = render(tokenizer, template, turns)
        prompts = [render(tokenizer, template, turns[:count], add_generation_prompt=True)[0] for count in (1, 3)]
    except TemplateError as error:
        raise ChatTemplateError(f"model.language.template={name} cannot be used: {error}") from None
    marked = [split_thought(text[begin:end])[1] for begin, end in spans]
    answers = [_SHORT_ANSWER["content"], _ANSWER["content"].strip()]
    if len(marked) != 2 or any(not m.strip().startswith(a) for m, a in zip(marked, answers, strict=True)):
        raise ChatTemplateError(
            f"model.language.template={name}: its {{% generation %}} markers should enclose the answers {answers}, but "
            f"enclose {marked}"
        )
    for (begin, _), prompt in zip(spans, prompts, strict=True):
        if text[:begin] != prompt:
            raise ChatTemplateError(
                f"model.language.template={name}: what precedes an answer in training, {text[:begin]!r}, is not the prompt that "
                f"generation starts from, {prompt!r}; move the {{% generation %}} marker"
            )
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    for words in marked:
        if not words.rstrip().endswith(tuple(special)):
            raise ChatTemplateError(
                f"model.language.template={name} ends an answer with {words[-12:]!r}, in which the tokenizer "
                f"{tokenizer.name_or_path!r} knows no special token, so generation would not stop; choose the template "
                f"of the tokenizer's family, or put the end token inside the markers. Its special tokens: {sorted(special)}"
            )
