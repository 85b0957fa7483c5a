"""A model that is asked by a prompting protocol: examples in front, reasons first, and a vote over samples."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.eval.errors import PromptTooLong
from medvlp.eval.models.answering import Answer, AnsweringModel, FrontModel, Prompt, Sampling
from medvlp.eval.prompting.examples import Example, ExamplePool
from medvlp.eval.prompting.turns import is_generated, refining, with_examples, with_words
from medvlp.eval.prompting.votes import Voted
from medvlp.models.api.completion import TOO_LONG
from medvlp.shards import BadSample, Sample, Turn

PICTURES = 64
"""Samples of the examples whose decoded images stay in memory."""
Read = Callable[[Any, str, str], Any]
"""(question, scorer, response) → its answer, None where there is none."""


class PromptedModel(FrontModel):
    """An `AnsweringModel` in front of another. What a task asks it becomes the protocol's prompts; what it answers is what the
    protocol makes of the model's responses.

    Args:
        model: what answers.
        config: the protocol.
        read: how the answer of a sample is read, for the vote.
        pool: the examples; None without any.
        batch_size: prompts that the model is handed at once, so that a killed run loses no more.
    """

    def __init__(
        self, model: AnsweringModel, config: PromptingConfig, read: Read, pool: ExamplePool | None, batch_size: int
    ) -> None:
        self.model, self.config, self.read, self.pool = model, config, read, pool
        self.sampling = Sampling(config.temperature, config.top_p, config.seed)
        self.at_once = max(batch_size, getattr(model, "prompts_at_once", 0))
        self._pictures: OrderedDict[int, Any] = OrderedDict()

    def pictures(self, sample: Sample) -> Any:
        """As the model."""
        return self.model.pictures(sample)

    def gathered(self, images: Sequence[tuple[Any, int]]) -> Any:
        """As the model."""
        return self.model.gathered(images)

    def blank(self, count: int) -> Any:
        """As the model."""
        return self.model.blank(count)

    def fits(
        self,
        turns: Sequence[Turn],
        option_turns: Sequence[Turn],
        images: Sequence[bytes],
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """As the model, of a prompt that asks for reasons where the protocol does; without examples. Raises BadSample."""
        return self.model.fits(self._reasoned(turns), option_turns, images, options, max_new_tokens)

    def question_text(self, question: Any, scorer: str, images: int) -> str:
        """The prompt of a question as the model reads it, the examples included. scorer: in whose words its `turns` ask."""
        prompt = Prompt(question.turns, images, None, question, scorer)
        turns, examples = self._turns(prompt, is_generated(prompt.scorer)), examples_of(prompt)
        return self.model.prompt_text(turns, prompt.images + sum(example.images for example in examples))

    def example_pictures(self, example: Example) -> Any:
        """An example's images, as the model's `pictures` gives them. Raises BadSample: one that cannot be read."""
        assert self.pool is not None
        if example.row not in self._pictures:
            self._pictures[example.row] = self.model.pictures(self.pool.dataset.read(example.row))
            if len(self._pictures) > PICTURES:
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(example.row)
        return self._pictures[example.row]

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The answer to each prompt: the greedy one, a sampled one, or a `Voted` one."""
        full = self._with_examples(prompts, True)
        if not self.sampling.temperature:
            return self.model.generate(full, max_new_tokens)
        samples = self._samples(full, self.config.samples, max_new_tokens)
        if self.config.refinements:
            return self._refined(full, samples, max_new_tokens)
        if self.config.samples == 1:
            return [of_prompt[0] for of_prompt in samples]
        return [Voted.of(of_prompt, self._reader(prompt)) for prompt, of_prompt in zip(full, samples, strict=True)]

    def sample(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], sampling: Sampling, max_new_tokens: int
    ) -> list[str]:
        """A sampled answer to each prompt, its examples in front."""
        return self.model.sample(self._with_examples(prompts, True), numbers, sampling, max_new_tokens)

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """As the model, the examples in front."""
        return self.model.stream(self._with_examples([prompt], True)[0], max_new_tokens, output)

    def loglikelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """As the model, the examples in front of each prompt."""
        return self.model.loglikelihood(self._with_examples(prompts, False), answers)

    def metadata(self) -> dict[str, Any]:
        """As the model, and how it is sampled."""
        metadata = dict(self.model.metadata())
        if self.sampling.temperature and isinstance(metadata.get("parameters"), dict):
            of_samples = {"temperature": self.sampling.temperature, "seed": "of each sample, by prompting.seed"}
            metadata["parameters"] = metadata["parameters"] | of_samples
        return metadata

    def _reasoned(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        return with_words(turns, self.config.chain_of_thought_prompt) if self.config.chain_of_thought else turns

    def _turns(self, prompt: Prompt, is_generating: bool) -> Sequence[Turn]:
        turns = self._reasoned(prompt.turns) if is_generating else prompt.turns
        return with_examples(turns, examples_of(prompt), prompt.scorer, self.config)

    def _with_examples(self, prompts: Sequence[Prompt], is_generating: bool) -> list[Prompt]:
        """Prompts with their examples. Those that share their images and examples share the images of both."""
        pixels_of: dict[tuple[int, tuple[int, ...]], Any] = {}
        full = []
        for prompt in prompts:
            examples = [example for example in examples_of(prompt) if example.images]
            pixels, images = prompt.pixels, prompt.images
            if examples:
                key = id(prompt.pixels), tuple(example.row for example in examples)
                if key not in pixels_of:
                    parts = [(self.example_pictures(e), position) for e in examples for position in range(e.images)]
                    parts += [(prompt.pixels, position) for position in range(prompt.images)]
                    pixels_of[key] = self.model.gathered(parts)
                pixels, images = pixels_of[key], images + sum(example.images for example in examples)
            full.append(prompt._replace(turns=self._turns(prompt, is_generating), images=images, pixels=pixels))
        return full

    def _samples(self, prompts: Sequence[Prompt], count: int, max_new_tokens: int) -> list[list[str]]:
        """Samples of each prompt, whose examples stand in front already."""
        jobs = [(prompt, number) for prompt in prompts for number in range(count)]
        texts: list[str] = []
        for start in range(0, len(jobs), self.at_once):
            batch = jobs[start : start + self.at_once]
            texts += self.model.sample(
                [prompt for prompt, _ in batch], [number for _, number in batch], self.sampling, max_new_tokens
            )
        return [texts[start : start + count] for start in range(0, len(texts), count)]

    def _refined(self, prompts: Sequence[Prompt], samples: Sequence[Sequence[str]], max_new_tokens: int) -> list[str]:
        """The second stage of ensemble refinement (Med-PaLM 2: Singhal et al. 2025): each prompt again, behind all its samples.

        Of samples that do not fit into the model together, the first are shown.
        """
        counts = [len(of_prompt) for of_prompt in samples]
        jobs = [self._second(prompt, row) for prompt, row in zip(prompts, samples, strict=True)]
        try:
            refined = self._samples(jobs, self.config.refinements, max_new_tokens)
        except (PromptTooLong, BadSample):
            refined = [[] for _ in prompts]
        for i, (prompt, row) in enumerate(zip(prompts, samples, strict=True)):
            while counts[i] and (not refined[i] or _is_too_long(refined[i])):
                try:
                    refined[i] = self._samples(
                        [self._second(prompt, row[: counts[i]])], self.config.refinements, max_new_tokens
                    )[0]
                except (PromptTooLong, BadSample):
                    refined[i] = []
                if not refined[i] or _is_too_long(refined[i]):
                    counts[i] -= 1
            refined[i] = refined[i] if counts[i] else []  # none of its samples fits: the vote is over them
        return [
            Voted.of(second or list(first), self._reader(prompt), first, count)
            for prompt, first, second, count in zip(prompts, samples, refined, counts, strict=True)
        ]

    def _second(self, prompt: Prompt, reasonings: Sequence[str]) -> Prompt:
        return prompt._replace(turns=refining(prompt.turns, reasonings, self.config.refinement_prompt))

    def _reader(self, prompt: Prompt) -> Callable[[str], Any]:
        return lambda text: self.read(prompt.question, prompt.scorer, text)


def examples_of(prompt: Prompt) -> Sequence[Example]:
    """The examples of a prompt's question."""
    examples: Sequence[Example] = getattr(prompt.question, "examples", ())
    return examples


def _is_too_long(samples: Sequence[str]) -> bool:
    return any(isinstance(text, Answer) and text.finish == TOO_LONG for text in samples)
