"""Prompts with examples in front, the words of a chain of thought, and those of a second stage."""

import re
from collections.abc import Sequence

from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.eval.prompting.examples import Example
from medvlp.shards import Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN
from medvlp.wording.questions import LETTER, TEXT

LEAD = "The answer is"
"""Behind an example's reasons, as `CHAIN_OF_THOUGHT` asks for it."""
_CONTROL = re.compile(r"<\|[^|<>]{0,40}\|>|</?s>|<(?:start|end)_of_turn>")


def with_examples(
    turns: Sequence[Turn], examples: Sequence[Example], scorer: str, config: PromptingConfig
) -> tuple[Turn, ...]:
    """Turns of a prompt behind those of its examples; what the system says stays in front."""
    system = [turn for turn in turns[:1] if turn.role == "system"]
    example_words = [turn for example in examples for turn in example_turns(example, scorer, config)]
    return (*system, *example_words, *turns[len(system) :])


def example_turns(example: Example, scorer: str, config: PromptingConfig) -> tuple[Turn, ...]:
    """An example in the words of a scorer, and its answer. The reasons that the data have for it stand before the answer where
    reasons are asked for."""
    question = example.question
    turns = tuple(turn for turn in question.prompts.get(scorer, question.turns) if turn.role != "system")
    answer = answer_of(example, scorer, config)
    if config.chain_of_thought and is_generated(scorer):
        turns = with_words(turns, config.chain_of_thought_prompt)
        answer = "\n".join(filter(None, [example.rationale, f"{LEAD} {answer}"]))
    return (*turns, Turn("assistant", answer))


def answer_of(example: Example, scorer: str, config: PromptingConfig) -> str:
    """The right answer of an example, as its scorer reads one."""
    question = example.question
    if not question.options:
        return question.target
    texts = [question.options[letter] for letter in question.letters]
    if scorer == LETTER:
        return ", ".join(question.letters)
    if is_generated(scorer) and scorer in ("", "generated"):
        values = {"letter": ", ".join(question.letters), "text": ", ".join(texts)}
        if len(texts) > 1 and {"{letter}", "{text}"} <= set(re.findall(r"\{\w+\}", config.example_answer)):
            pairs = zip(question.letters, texts, strict=True)
            return ", ".join(_filled(config.example_answer, {"letter": a, "text": b}) for a, b in pairs)
        return _filled(config.example_answer, values)
    return ", ".join(texts)


def is_generated(scorer: str) -> bool:
    """Whether a scorer reads what a model writes."""
    return scorer not in (LETTER, TEXT)


def with_words(turns: Sequence[Turn], words: str) -> tuple[Turn, ...]:
    """Turns with words on a line of their own behind the last one."""
    return (*turns[:-1], Turn(turns[-1].role, "\n".join(filter(None, [turns[-1].text, words]))))


def refining(turns: Sequence[Turn], reasonings: Sequence[str], words: str) -> tuple[Turn, ...]:
    """The prompt of a second stage. words: with {prompt} and {reasonings}."""
    attempts = "\n\n".join(f"Attempt {number}:\n{harmless(text)}" for number, text in enumerate(reasonings, 1))
    prompt = turns[-1].text
    images = re.match(rf"(?:{re.escape(IMAGE_TOKEN)}\s*)*", prompt)
    start = images.end() if images else 0
    text = _filled(words, {"prompt": prompt[start:], "reasonings": attempts})
    return (*turns[:-1], Turn("user", prompt[:start] + text))


def harmless(text: str) -> str:
    """A response without what would be read as an image or a control token."""
    return _CONTROL.sub("", text.replace(IMAGE_TOKEN, "")).strip()


def _filled(words: str, values: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), words)
