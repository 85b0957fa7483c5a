"""Options of prompting protocols in task files: examples, chains of thought, votes over samples, refinement."""

import re
from dataclasses import dataclass, field
from typing import Any

from medvlp.config.rules import ConfigError, at_least, one_of

SELECTIONS = ("fixed", "random", "nearest")
EMBEDDINGS = ("words", "text", "image")
CHAIN_OF_THOUGHT = (
    "Think step by step. Then state your answer in a last line of its own that begins with: The answer is"
)
REFINEMENT = (
    "{prompt}\n\nAttempts at this question, which may be right or wrong:\n\n{reasonings}\n\n"
    "Weigh these attempts against each other. Give your own explanation, then state your answer in a last line of its own that "
    "begins with: The answer is"
)
REASONING_TOKENS = 128
"""Tokens below which no chain of thought ends with its answer."""
PROMPT_SET_KEYS = ("instruction", "choice_prompts", "option_line", "max_new_tokens", "prompting")
"""Keys of a task that a prompt set may replace."""


@dataclass(kw_only=True)
class PromptingConfig:
    """How questions are put to a model, and how its answer is made of its responses."""

    shots: int = 0
    """Examples, with their answers, in front of every question."""
    selection: str = "fixed"
    """Of the examples: fixed (the same for all questions), random (a draw of its own for each question, by seed), nearest (the
    most similar ones, by embedding)."""
    examples: list[str] = field(default_factory=list)
    """With selection: fixed, the names of the questions, such as vqa_rad__1__0__0#0, in their order; empty takes the first."""
    split: str = "train"
    """Split that examples are of; never the one that is scored."""
    example_images: bool = True
    """Whether examples are shown with their images; a model that takes images of one turn only wants false."""
    example_answer: str = "{letter}. {text}"
    """Multiple choice: the answer of an example where a text is generated, with {letter} and {text}."""
    embedding: str = "words"
    """With selection: nearest, what is compared: words (of the questions, weighted by how rare they are), or the embeddings that
    embedder gives of questions (text) or of images (image)."""
    embedder: str = ""
    """With embedding: text or image, the model: a checkpoint, an open_clip: or hf: name."""
    chain_of_thought: bool = False
    """Whether generated answers are asked for with the reasons first."""
    chain_of_thought_prompt: str = CHAIN_OF_THOUGHT
    """The words that ask so, on a line behind the prompt."""
    samples: int = 1
    """Responses to each question, sampled at temperature; with more than one the answer is the one that most of them give."""
    temperature: float = 0.0
    """Of samples; 0 answers greedily, once."""
    top_p: float = 1.0
    """Samples are drawn from the likeliest tokens that together have this probability."""
    seed: int = 0
    """Of random examples and of samples."""
    refinements: int = 0
    """Ensemble refinement: so many further samples, each given all samples before it answers, and the vote is theirs."""
    refinement_prompt: str = REFINEMENT
    """The words of the second stage, with {prompt} (what was asked before) and {reasonings}."""

    @property
    def is_default(self) -> bool:
        """Whether questions are put as they are, and answered greedily."""
        return self == PromptingConfig()

    def check(self, task: str, max_new_tokens: int, split: str) -> None:
        """Numbers that can be, and choices that go together. split: the one that is scored. Raises ConfigError."""
        key = f"{task}: "
        one_of(f"{key}prompting.selection", self.selection, SELECTIONS)
        one_of(f"{key}prompting.embedding", self.embedding, EMBEDDINGS)
        for name, least in (("shots", 0), ("samples", 1), ("refinements", 0), ("seed", 0)):
            at_least(f"{key}prompting.{name}", getattr(self, name), least)
        self._check_examples(key, split)
        self._check_sampling(key)
        if self.chain_of_thought and max_new_tokens < REASONING_TOKENS:
            raise ConfigError(
                f"{key}"
                f"prompting.chain_of_thought: reasons and an answer do not fit into max_new_tokens={max_new_tokens}; set it to "
                f"{REASONING_TOKENS} or more, e.g. 512"
            )
        if self.chain_of_thought and not self.chain_of_thought_prompt.strip():
            raise ConfigError(f"{key}prompting.chain_of_thought_prompt is empty; say how the reasons are asked for")

    def _check_examples(self, key: str, split: str) -> None:
        if self.shots and self.split == split:
            raise ConfigError(
                f"{key}"
                f"prompting.split={self.split} is the split that is scored; its answers would stand in the prompts. Name another "
                f"one, such as train"
            )
        if self.examples and (self.selection != "fixed" or len(set(self.examples)) < max(self.shots, 1)):
            raise ConfigError(
                f"{key}"
                f"prompting.examples={list(self.examples)}: expected with selection: fixed, and {self.shots} or more that differ"
            )
        if (self.embedding != "words") != bool(self.embedder):
            raise ConfigError(
                f"{key}"
                f"prompting.embedding={self.embedding} and prompting.embedder={self.embedder!r}: text and image need an "
                f"embedder (a "
                f"checkpoint, an open_clip: or hf: name), words needs none"
            )
        if self.embedding != "words" and self.selection != "nearest":
            raise ConfigError(
                f"{key}prompting.embedding={self.embedding} is for selection: nearest, not {self.selection}"
            )
        names = set(re.findall(r"\{(\w*)\}", self.example_answer))
        if not names or names - {"letter", "text"}:
            raise ConfigError(
                f"{key}prompting.example_answer={self.example_answer!r}, expected {{letter}}, {{text}} or both in it"
            )

    def _check_sampling(self, key: str) -> None:
        if not 0 <= self.temperature <= 10 or not 0 < self.top_p <= 1:
            raise ConfigError(
                f"{key}"
                f"prompting.temperature={self.temperature} and prompting.top_p={self.top_p}, expected 0 to 10, and "
                f"above 0 up to 1"
            )
        if (self.samples > 1 or self.refinements) and not self.temperature:
            raise ConfigError(
                f"{key}"
                f"prompting.samples={self.samples} and prompting.refinements={self.refinements} at temperature 0 "
                f"would all be the same "
                f"response; state a temperature, e.g. 0.7"
            )
        if self.refinements and not self.chain_of_thought:
            raise ConfigError(
                f"{key}prompting.refinements: there are no reasonings to refine; set chain_of_thought: true"
            )
        if set(re.findall(r"\{(\w*)\}", self.refinement_prompt)) != {"prompt", "reasonings"}:
            raise ConfigError(f"{key}prompting.refinement_prompt, expected {{prompt}} and {{reasonings}} in it")

    def to_protocol(self) -> dict[str, Any]:
        """The keys that decide, without those of what is not used; empty where nothing is."""
        protocol: dict[str, Any] = {}
        if self.shots:
            names = ["shots", "selection", "split", "example_images", "example_answer"]
            names += {"fixed": ["examples"], "random": ["seed"], "nearest": ["embedding", "embedder"]}[self.selection]
            protocol |= {name: getattr(self, name) for name in names}
        if self.chain_of_thought:
            protocol["chain_of_thought"] = self.chain_of_thought_prompt
        if self.temperature:
            protocol |= {name: getattr(self, name) for name in ("samples", "temperature", "top_p", "seed")}
        if self.refinements:
            protocol |= {"refinements": self.refinements, "refinement_prompt": self.refinement_prompt}
        return {name: list(value) if name == "examples" else value for name, value in protocol.items()}
