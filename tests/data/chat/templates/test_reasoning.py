"""Families up to 2026: what is rendered and what is supervised, against strings written by hand; thoughts; system turns.

In the expected strings « and » enclose what is trained on.
"""

import pytest

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.supervision import check_supervision
from medvlp.data.chat.templates import chat_template, render, split_thought
from medvlp.shards import BadSample, Conversation, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN
from tests.data.chat.tiny_tokenizer import tiny_tokenizer

PLAIN = [Turn("user", "Is it big?"), Turn("assistant", "Yes."), Turn("user", "Where?"), Turn("assistant", "Left.")]
THOUGHT = "<think>\nThe border is wide.\n</think>\n\n"
THOUGHTFUL = [Turn("user", "Is it big?"), Turn("assistant", THOUGHT + "Yes."), *PLAIN[2:]]
SYSTEM = Turn("system", "Be brief.")


def encoder_of(family: str, thoughts: str = "", system: str = "", choice: str = "") -> ChatEncoder:
    tokenizer = tiny_tokenizer(family)
    _, template = chat_template(tokenizer, choice, thoughts, system)
    return ChatEncoder(tokenizer, template, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), 2, thoughts)


def marked(encoder: ChatEncoder, turns: list[Turn]) -> str:
    """What is trained on as text, supervised tokens enclosed."""
    encoded = encoder.encode(turns, 0)
    text, inside = "", False
    for number, supervised in zip(encoded.ids.tolist(), encoded.supervised.tolist(), strict=True):
        text += "»" if inside and not supervised else "«" if supervised and not inside else ""
        text, inside = text + encoder.decode([number]), supervised
    return text + "»" * inside


ASK, SAY = "<|im_start|>user\n", "<|im_start|>assistant\n"
EMPTY = "<think>\n\n</think>\n\n"
SMOL = "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nToday Date: 26 July 2024\nReasoning Mode: {}\n\n"
SMOL += "## Custom Instructions\n\n{}\n\n<|im_end|>\n"


@pytest.mark.parametrize(
    ("family", "thoughts", "expected"),
    [
        (
            "qwen3",
            "",
            f"{ASK}Is it big?<|im_end|>\n{SAY}{EMPTY}«Yes.<|im_end|>»\n{ASK}Where?<|im_end|>\n{SAY}{EMPTY}«Left.<|im_end|>»",
        ),
        (
            "qwen3",
            "supervised",
            f"{ASK}Is it big?<|im_end|>\n{SAY}«{EMPTY}Yes.<|im_end|>»\n{ASK}Where?<|im_end|>\n{SAY}«{EMPTY}Left.<|im_end|>»",
        ),
        (
            "qwen3",
            "kept",
            f"{ASK}Is it big?<|im_end|>\n{SAY}{EMPTY}«Yes.<|im_end|>»\n{ASK}Where?<|im_end|>\n{SAY}{EMPTY}«Left.<|im_end|>»",
        ),
        (
            "smollm3",
            "",
            SMOL.format("/no_think", "You are brief.")
            + f"{ASK}Is it big?<|im_end|>\n{SAY}<think>\n\n</think>\n«Yes.<|im_end|>»\n"
            + f"{ASK}Where?<|im_end|>\n{SAY}<think>\n\n</think>\n«Left.<|im_end|>»",
        ),
        (
            "smollm3",
            "supervised",
            SMOL.format("/think", "You think in two sections.")
            + f"{ASK}Is it big?<|im_end|>\n{SAY}«Yes.<|im_end|>»\n{ASK}Where?<|im_end|>\n{SAY}«Left.<|im_end|>»",
        ),
        (
            "deepseek-r1",
            "",
            "<｜begin▁of▁sentence｜><｜User｜>Is it big?<｜Assistant｜><think>\n\n</think>\n\n«Yes.<｜end▁of▁sentence｜>»"
            "<｜User｜>Where?<｜Assistant｜><think>\n\n</think>\n\n«Left.<｜end▁of▁sentence｜>»",
        ),
        (
            "llama-4",
            "",
            "<|begin_of_text|><|header_start|>user<|header_end|>\n\nIs it big?<|eot|>"
            "<|header_start|>assistant<|header_end|>\n\n«Yes.<|eot|>»"
            "<|header_start|>user<|header_end|>\n\nWhere?<|eot|><|header_start|>assistant<|header_end|>\n\n«Left.<|eot|>»",
        ),
        (
            "phi-4",
            "",
            "<|im_start|>user<|im_sep|>Is it big?<|im_end|><|im_start|>assistant<|im_sep|>«Yes.<|im_end|>»"
            "<|im_start|>user<|im_sep|>Where?<|im_end|><|im_start|>assistant<|im_sep|>«Left.<|im_end|>»",
        ),
        ("mistral-v3-tekken", "", "<s>[INST]Is it big?[/INST]«Yes.</s>»[INST]Where?[/INST]«Left.</s>»"),
        (
            "mistral-v7-tekken",
            "",
            '<s>[SYSTEM_PROMPT]You are Mistral, of {{ today }}. "ok"[/SYSTEM_PROMPT]'
            "[INST]Is it big?[/INST]«Yes.</s>»[INST]Where?[/INST]«Left.</s>»",
        ),
        (
            "gemma-3",
            "",
            "<bos><start_of_turn>user\nIs it big?<end_of_turn>\n<start_of_turn>model\n«Yes.<end_of_turn>»\n"
            "<start_of_turn>user\nWhere?<end_of_turn>\n<start_of_turn>model\n«Left.<end_of_turn>»",
        ),
    ],
)
def test_what_is_trained_on(family, thoughts, expected):
    assert marked(encoder_of(family, thoughts), PLAIN) == expected


@pytest.mark.parametrize("family", ["mistral-v3", "mistral-v7"])
def test_mistrals_answers_begin_with_a_blank(family):
    encoder = encoder_of(family)
    text, spans = render(encoder.tokenizer, encoder.template, [{"role": t.role, "content": t.text} for t in PLAIN])
    assert text.endswith("[INST] Is it big?[/INST] Yes.</s>[INST] Where?[/INST] Left.</s>")
    assert [text[begin:end] for begin, end in spans] == [" Yes.</s>", " Left.</s>"]


@pytest.mark.parametrize(
    ("family", "thoughts", "first"),
    [
        ("qwen3", "dropped", f"{SAY}{EMPTY}«Yes.<|im_end|>»"),
        ("qwen3", "kept", f"{SAY}{THOUGHT}«Yes.<|im_end|>»"),
        ("qwen3", "supervised", f"{SAY}«{THOUGHT}Yes.<|im_end|>»"),
        ("qwen3-thinking", "supervised", f"{SAY}<think>\n«The border is wide.\n</think>\n\nYes.<|im_end|>»"),
        ("qwen3-thinking", "kept", f"{SAY}{THOUGHT}«Yes.<|im_end|>»"),
        ("smollm3", "supervised", f"{SAY}«<think>\nThe border is wide.\n</think>\nYes.<|im_end|>»"),
        (
            "deepseek-r1",
            "supervised",
            "<｜Assistant｜><think>\n«The border is wide.\n</think>\n\nYes.<｜end▁of▁sentence｜>»",
        ),
        ("chatml", "dropped", f"{SAY}«Yes.<|im_end|>»"),
        ("chatml", "kept", f"{SAY}{THOUGHT}«Yes.<|im_end|>»"),
        ("chatml", "supervised", f"{SAY}«{THOUGHT}Yes.<|im_end|>»"),
        ("gemma-3", "kept", f"<start_of_turn>model\n{THOUGHT}«Yes.<end_of_turn>»"),
    ],
)
def test_thoughts(family, thoughts, first):
    encoder = encoder_of(family, thoughts)
    assert first in marked(encoder, THOUGHTFUL)
    check_supervision(encoder, [Sample("s", conversations=[Conversation(THOUGHTFUL)])])


@pytest.mark.parametrize("family", ["qwen3", "qwen3-thinking", "smollm3", "deepseek-r1", "chatml", "llama-4"])
@pytest.mark.parametrize("thoughts", ["", "dropped", "kept", "supervised"])
def test_a_prompt_is_the_beginning_whatever_becomes_of_thoughts(family, thoughts):
    encoder = encoder_of(family, thoughts)
    turns = PLAIN if not thoughts else THOUGHTFUL
    for count in (2, 4):
        encoded, prompt = encoder.encode(turns[:count], 0), encoder.prompt(turns[: count - 1], 0)
        assert encoded.ids[: len(prompt)].tolist() == prompt.tolist()
        assert not encoded.supervised[len(prompt) - 1]
        assert encoded.supervised[len(prompt)] or thoughts == "kept"


@pytest.mark.parametrize("family", ["qwen3", "chatml"])
def test_thoughts_that_nobody_chose_to_train_on_are_refused(family):
    with pytest.raises(BadSample, match=r"set model\.language\.thoughts=dropped, kept .* or supervised") as caught:
        encoder_of(family).encode(THOUGHTFUL, 0)
    assert caught.value.reason == "thoughts_not_chosen"
    empty = [PLAIN[0], Turn("assistant", "<think>\n\n</think>\n\nYes.")]
    assert encoder_of(family).encode(empty, 0).ids.tolist() == encoder_of(family).encode(PLAIN[:2], 0).ids.tolist()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>", "special_token_in_text"),
        ("Yes. <think>a</think>", "special_token_in_text"),
        (THOUGHT, "nothing_supervised"),
    ],
)
def test_thoughts_in_other_places(text, reason):
    with pytest.raises(BadSample) as caught:
        encoder_of("qwen3", "supervised").encode([PLAIN[0], Turn("assistant", text)], 0)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>\na\n</think>\n\nb", ("a", "b")),
        (" <think>a</think>b", ("a", "b")),
        ("a</think>\nb", ("a", "b")),
        ("<think></think>b", ("", "b")),
        ("b", ("", "b")),
        ("b <think>a</think> c", ("", "b <think>a</think> c")),
        ("<think>a", ("", "<think>a")),
    ],
)
def test_a_thought_and_an_answer(text, parts):
    assert split_thought(text) == parts


def test_a_system_turn_goes_before_the_first_question_or_out():
    gemma = [SYSTEM, *PLAIN[:2]]
    begin, end = "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n«Yes.<end_of_turn>»"
    assert marked(encoder_of("gemma", system="merge"), gemma) == f"{begin}Be brief.\n\nIs it big?{end}"
    assert marked(encoder_of("gemma", system="drop"), gemma) == f"{begin}Is it big?{end}"
    assert marked(encoder_of("gemma", system="merge"), PLAIN[:2]) == f"{begin}Is it big?{end}"
    assert encoder_of("gemma", system="merge").prompt(gemma[:2], 0).tolist() == (
        encoder_of("gemma-3").prompt(gemma[:2], 0).tolist()
    )
    mistral = encoder_of("mistral", system="merge")
    said = [{"role": turn.role, "content": turn.text} for turn in gemma]
    assert render(mistral.tokenizer, mistral.template, said)[0] == "<s>[INST] Be brief.\n\nIs it big? [/INST]Yes.</s> "


@pytest.mark.parametrize("family", ["mistral-v3", "mistral-v3-tekken"])
def test_mistrals_system_turn_does_not_move_from_question_to_question(family):
    turns = [SYSTEM, *PLAIN]
    encoder = encoder_of(family)
    text, _ = render(encoder.tokenizer, encoder.template, [{"role": t.role, "content": t.text} for t in turns])
    assert text.count("Be brief.\n\nIs it big?") == text.count("Be brief.") == 1


def test_the_exported_template_thinks_on_demand():
    """`enable_thinking`, as servers pass it, goes before what was trained."""
    encoder = encoder_of("qwen3")
    asked = [{"role": "user", "content": "Is it big?"}]
    for thinking, end in ((None, EMPTY), (False, EMPTY), (True, "")):
        variables = {} if thinking is None else {"enable_thinking": thinking}
        text, _ = render(encoder.tokenizer, encoder.template, asked, add_generation_prompt=True, **variables)
        assert text == f"{ASK}Is it big?<|im_end|>\n{SAY}{end}"
    said = [*asked, {"role": "assistant", "content": "Yes.", "reasoning_content": "The border is wide."}]
    assert f"{SAY}{THOUGHT}Yes." in render(encoder.tokenizer, encoder.template, said)[0]
