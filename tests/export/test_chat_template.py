import pytest
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from medvlp.data.chat.templates import render
from medvlp.data.chat.templates.families import FAMILIES
from medvlp.data.chat.templates.selection import PROBES
from medvlp.export.chat_template import parts_template
from tests.data.chat.tiny_tokenizer import PUBLISHED, tiny_tokenizer

IMAGE = {"type": "image"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def rendered(tokenizer, template, messages, prompt):
    """Text and marked spans, or that the template refuses."""
    try:
        return render(tokenizer, template, messages, prompt)
    except TemplateError:
        return "refused"


@pytest.mark.parametrize("family", sorted(PUBLISHED))
def test_strings_and_lists_render_as_in_training_with_the_same_marks(family):
    tokenizer, template = tiny_tokenizer(family), FAMILIES[family]
    wrapped = parts_template(template)
    accepted = 0
    for probe in PROBES:
        lists = [{**turn, "content": [text(turn["content"])]} for turn in probe]
        for prompt in (False, True):
            expected = rendered(tokenizer, template, probe, prompt)
            accepted += expected != "refused"
            assert rendered(tokenizer, wrapped, probe, prompt) == expected
            assert rendered(tokenizer, wrapped, lists, prompt) == expected
    assert accepted >= 8


@pytest.mark.parametrize(
    ("parts", "same_as"),
    [
        ([IMAGE, text("Is it?")], "<image>\nIs it?"),
        ([text("Is it?"), IMAGE], "Is it?\n<image>"),
        ([IMAGE, IMAGE, text("Which?")], "<image>\n<image>\nWhich?"),
        ([IMAGE, text("before"), IMAGE, text("after")], "<image>\nbefore\n<image>\nafter"),
        ([text("a"), text("b")], "ab"),
        ([text("one <image> inside")], "one <image> inside"),
        ([{"type": "image_url", "image_url": {"url": "x"}}, text("q")], "<image>\nq"),
        ([IMAGE], "<image>"),
        ([], ""),
    ],
)
def test_parts_are_joined_as_training_writes_them(parts, same_as):
    tokenizer, template = tiny_tokenizer("chatml"), parts_template(FAMILIES["chatml"])
    messages, same_messages = ([{"role": "user", "content": content}] for content in (parts, same_as))
    assert render(tokenizer, template, messages, True) == render(tokenizer, FAMILIES["chatml"], same_messages, True)


def test_other_parts_are_refused_by_name():
    tokenizer, template = tiny_tokenizer("chatml"), parts_template(FAMILIES["chatml"])
    with pytest.raises(TemplateError, match="a part of type video: this model takes text and images"):
        render(tokenizer, template, [{"role": "user", "content": [{"type": "video"}]}])


def test_the_date_is_the_one_trained_with_whoever_renders():
    tokenizer = tiny_tokenizer("llama-3.1")
    turns = [{"role": "user", "content": "Is it?"}]
    expected, _ = render(tokenizer, FAMILIES["llama-3.1"], turns, True)
    assert "26 Jul 2024" in expected
    (prompt,), _ = render_jinja_template(
        conversations=[turns],
        chat_template=parts_template(FAMILIES["llama-3.1"]),
        add_generation_prompt=True,
        date_string="1 Jan 2031",
        **tokenizer.special_tokens_map,
    )
    assert prompt == expected
