"""Families of chat templates: recognised by what they render, equal to what is published, marked around the answers."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from medvlp.data.chat.templates import DATE, ChatTemplateError, chat_template, render
from medvlp.data.chat.templates import selection as module
from medvlp.data.chat.templates.families import DEFAULT_SYSTEM, FAMILIES, RECOGNISED
from medvlp.data.chat.templates.reasoning import REASONING
from tests.data.chat.tiny_tokenizer import PUBLISHED, tiny_tokenizer

TOKENIZERS = {family: tiny_tokenizer(family) for family in PUBLISHED}
MARKED = "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def messages(*contents: str, system: str = "") -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]
    return [{"role": "system", "content": system}, *turns] if system else turns


def own_template(answer: str, ask: str = ASK) -> str:
    """ChatML of a tokenizer's own, with other words for an answer or for the generation prompt."""
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        + answer
        + "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        + ask
    )


def tokenizer_with(template: str | None, family: str = "chatml"):
    tokenizer = tiny_tokenizer(family)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_family_is_recognised_by_what_its_template_renders(family):
    name, template = chat_template(TOKENIZERS[family])
    assert name == family
    assert template.endswith(FAMILIES[family])
    assert (template == FAMILIES[family]) == (family not in REASONING and family not in DEFAULT_SYSTEM)


def test_every_family_is_tested():
    assert set(PUBLISHED) == set(FAMILIES)


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(sorted(PUBLISHED)),
    contents=st.lists(st.text(alphabet="ab é😀\n\t'\"{}%\\", max_size=12), min_size=1, max_size=5),
    system=st.text(alphabet="ab \n", max_size=6),
    add_generation_prompt=st.booleans(),
)
def test_marked_templates_render_what_the_published_ones_render(family, contents, system, add_generation_prompt):
    def text(template):
        try:
            return render(TOKENIZERS[family], template, messages(*contents, system=system), add_generation_prompt)[0]
        except TemplateError:
            return "refused"

    tokenizer, published = TOKENIZERS[family], module.dated(PUBLISHED[family])
    default = module._with_default(tokenizer, family, published)
    assert text(default + RECOGNISED.get(family, FAMILIES[family])) == text(published)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            "chatml",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Is it? <|im_end|>\n"
            "<|im_start|>assistant\n« Yes.\n<|im_end|>»\n<|im_start|>user\nWhere?<|im_end|>\n"
            "<|im_start|>assistant\n«Left.<|im_end|>»\n",
        ),
        (
            "llama-2",
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n Is it? [/INST]« Yes. </s>»<s>[INST] Where? [/INST]« Left. </s>»",
        ),
        (
            "llama-3",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nIs it?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n«Yes.<|eot_id|>»"
            "<|start_header_id|>user<|end_header_id|>\n\nWhere?<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n«Left.<|eot_id|>»",
        ),
        ("vicuna_v1", "<s>Be brief. USER:  Is it?  ASSISTANT:«  Yes.\n</s>»USER: Where? ASSISTANT:« Left.</s>»"),
        (
            "gemma-3",
            "<bos><start_of_turn>user\nBe brief.\n\nIs it?<end_of_turn>\n<start_of_turn>model\n«Yes.<end_of_turn>»\n"
            "<start_of_turn>user\nWhere?<end_of_turn>\n<start_of_turn>model\n«Left.<end_of_turn>»\n",
        ),
        (
            "phi-3",
            "<|system|>\nBe brief.<|end|>\n<|user|>\n Is it? <|end|>\n<|assistant|>\n« Yes.\n<|end|>»\n"
            "<|user|>\nWhere?<|end|>\n<|assistant|>\n«Left.<|end|>»\n<|endoftext|>",
        ),
        (
            "zephyr",
            "<|system|>\nBe brief.</s>\n<|user|>\n Is it? </s>\n<|assistant|>\n« Yes.\n</s>»\n"
            "<|user|>\nWhere?</s>\n<|assistant|>\n«Left.</s>»\n",
        ),
    ],
)
def test_text_and_marked_spans(family, expected):
    conversation = messages(" Is it? ", " Yes.\n", "Where?", "Left.", system="Be brief.")
    text, spans = render(TOKENIZERS[family], FAMILIES[family], conversation)
    for begin, end in reversed(spans):
        text = f"{text[:begin]}«{text[begin:end]}»{text[end:]}"
    assert text == expected


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        ("qwen2", "You are a helpful assistant."),
        ("qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    ],
)
def test_default_system_prompts(family, expected):
    text, _ = render(TOKENIZERS[family], FAMILIES[family], messages("Is it?"), add_generation_prompt=True)
    assert text == (
        f"<|im_start|>system\n{expected}<|im_end|>\n<|im_start|>user\nIs it?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_date_does_not_change_from_day_to_day():
    of_the_day = PUBLISHED["llama-3.1"].replace(
        "{{ date_string or '26 Jul 2024' }}",
        "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}",
    )
    tokenizer = tokenizer_with(of_the_day, "llama-3.1")
    name, template = chat_template(tokenizer)
    assert name == "llama-3.1"
    assert f"Today Date: {DATE}\n" in render(tokenizer, template, messages("Is it?"))[0]


def test_a_tokenizers_own_markers_are_used():
    template = own_template("<|im_start|>assistant\n" + MARKED + "\n")
    assert chat_template(tokenizer_with(template)) == ("own", template)


def test_markers_in_wrong_places_do_not_hide_the_family():
    """SmolLM3's enclose the header of an answer, others leave its end out."""
    template = own_template("<|im_start|>assistant\n{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n")
    assert chat_template(tokenizer_with(template)) == ("chatml", FAMILIES["chatml"])


def test_several_templates_without_a_default_are_told_as_none():
    tokenizer = tokenizer_with({"tool_use": "x", "rag": "y"})
    with pytest.raises(ChatTemplateError, match="has no chat template"):
        chat_template(tokenizer)
    assert chat_template(tokenizer, "chatml")[0] == "chatml"


def test_a_template_that_fails_is_told_by_its_name(tmp_path):
    (tmp_path / "mine.jinja").write_text("{{ [1, 2].index(5) }}")
    with pytest.raises(ChatTemplateError, match=r"model.language.template=mine.jinja cannot be used: ValueError"):
        chat_template(tokenizer_with(None), str(tmp_path / "mine.jinja"))


def test_a_marker_that_marks_nothing_is_none():
    tokenizer = tokenizer_with("{# {% generation %} #}" + PUBLISHED["chatml"])
    assert chat_template(tokenizer)[0] == "chatml"


@pytest.mark.parametrize(
    "template",
    [
        PUBLISHED["chatml"].replace("<|im_end|>", "<|im_end|> "),
        PUBLISHED["smollm2"].replace("SmolLM", "SmolVLM"),
        PUBLISHED["chatml"].replace("{{ message.content }}", "{{ message.content | trim }}"),
        PUBLISHED["chatml"].replace("<|im_start|>assistant", "<|im_start|>assistant "),
        "{{ messages[0].content[0].text }}",
    ],
)
def test_what_looks_like_a_family_but_renders_otherwise_is_not_guessed(template):
    with pytest.raises(
        ChatTemplateError,
        match=r"no known family renders the same text.*model.language.template=<family>, one of chatml",
    ):
        chat_template(tokenizer_with(template))


@pytest.mark.parametrize(
    ("template", "choice", "complaint"),
    [
        (None, "", r"has no chat template; set model.language.template=<family>, one of chatml, smollm2"),
        (None, "chatlm", r"model.language.template=chatlm is not known"),
        (None, "nowhere.jinja", r"model.language.template=nowhere.jinja: there is no such file"),
        # the marker stands around the question
        (
            own_template("{{ m.content }}").replace("{{ m.content }}<|im_end|>", MARKED),
            "",
            "should enclose the answers",
        ),
        # only the last answer is marked
        (
            own_template(
                "<|im_start|>assistant\n{% if loop.last %}" + MARKED + "{% else %}{{ m.content }}<|im_end|>{% endif %}"
            ),
            "",
            "should enclose the answers",
        ),
        # the marker begins before the generation prompt ends
        (
            own_template("<|im_start|>{% generation %}assistant\n{{ m.content }}<|im_end|>{% endgeneration %}\n"),
            "",
            "should enclose the answers",
        ),
        # the generation prompt is not what precedes an answer
        (own_template("<|im_start|>assistant\n" + MARKED, ASK.replace("\n", " \n")), "", "is not the prompt"),
        # the end of an answer is left out
        (
            own_template("<|im_start|>assistant\n{% generation %}{{ m.content }}{% endgeneration %} <|im_end|>\n"),
            "",
            r"ends an answer with 'On the left.', in which the tokenizer .* knows no special token",
        ),
        # another family's end token
        (None, "llama-3", r"model.language.template=llama-3 ends an answer with '.*<\|eot_id\|>'"),
    ],
)
def test_templates_that_cannot_be_trained_with(template, choice, complaint):
    with pytest.raises(ChatTemplateError, match=complaint):
        chat_template(tokenizer_with(template), choice)


def test_a_named_family_goes_before_the_tokenizers_own():
    assert chat_template(TOKENIZERS["smollm2"], "chatml") == ("chatml", FAMILIES["chatml"])


def test_a_file(tmp_path):
    path = tmp_path / "ours.jinja"
    template = own_template("<|im_start|>assistant\n" + MARKED + "\n")
    path.write_text(template, encoding="utf-8")
    assert chat_template(TOKENIZERS["chatml"], str(path)) == ("ours.jinja", template)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{{ '\xff' }}", r"is not UTF-8 \(byte 4\)"),
        (b" " * 65537, "has more than 65536 bytes"),
        (PUBLISHED["chatml"].encode(), "should enclose the answers"),
        (b"{% for m in messages %}", r"model.language.template=bad.jinja cannot be used"),
    ],
)
def test_files_that_are_no_templates(tmp_path, content, complaint):
    path = tmp_path / "bad.jinja"
    path.write_bytes(content)
    with pytest.raises(ChatTemplateError, match=complaint):
        chat_template(TOKENIZERS["chatml"], str(path))
