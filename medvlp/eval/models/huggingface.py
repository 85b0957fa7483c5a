"""Models of transformers as tasks ask them: turns by their own chat template, images by their own processor."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TextIO

from PIL import Image

from medvlp.data.images.decode import decode_image, size_of
from medvlp.eval.errors import TaskError
from medvlp.eval.models.answering import Prompt
from medvlp.eval.models.templates import ChatTemplate, PromptTemplate
from medvlp.models.hf.answering import Generator, Row, TooLong
from medvlp.shards import Sample, Turn
from medvlp.terminal import harmless


@dataclass(frozen=True)
class Pictures:
    """Images of a prompt; is_blank: they show nothing."""

    images: tuple[Image.Image, ...]
    is_blank: bool = False


@dataclass(frozen=True)
class HfModel:
    """A model of transformers that answers, of images and text or of text alone.

    generator: texts with images → answers and likelihoods.
    template: turns → texts.
    takes_images: False for a language model.
    max_pixels: larger images are bad samples.
    identity: hash of the weights, the processor and the tokenizer.
    facts: what else the protocol says of it.
    execution: device and types, which decide the last bits.
    """

    offers: ClassVar[tuple[str, ...]] = ("generate", "loglikelihood")

    generator: Generator
    template: PromptTemplate
    takes_images: bool
    max_pixels: int
    identity: str
    facts: dict[str, Any]
    execution: str

    def pictures(self, sample: Sample) -> Pictures:
        """The sample's images as RGB. Raises BadSample."""
        names = sorted(sample.images) if self.takes_images else []
        return Pictures(tuple(decode_image(sample.images[name], self.max_pixels) for name in names))

    def gathered(self, images: Sequence[tuple[Pictures, int]]) -> Pictures:
        """Images of several samples."""
        return Pictures(tuple(pictures.images[position] for pictures, position in images))

    def blank(self, count: int) -> Pictures:
        """So many images of the processor's mean colour."""
        reader: Any = self.generator.reader
        return Pictures((reader.blank(),) * count if count else (), bool(count))

    def fits(
        self,
        turns: Sequence[Turn],
        option_turns: Sequence[Turn],
        images: Sequence[bytes],
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """Whether prompt and answer fit, as `AnsweringModel.fits`; of images whose tokens the processor cannot tell, the
        placeholders are counted."""
        reader: Any = self.generator.reader
        text = self.template.prompt(turns, len(images))
        option_text = self.template.prompt(option_turns, len(images))
        longest = self.generator.longest
        if longest is None:
            return True
        image_tokens = reader.image_tokens([size_of(image) for image in images]) if images else 0
        answers = [len(self.template.continuation(reader, option_text, option)) for option in options]
        lengths = [len(reader.ids(text)) + max_new_tokens]
        if answers:
            lengths.append(len(reader.ids(option_text)) + max(answers))
        return image_tokens + max(lengths) <= longest

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """A prompt as the template writes it, the tokens of each image as one."""
        return self.template.prompt(turns, images)

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The greedy answer to each prompt; of a model without a chat template, up to where the next question would begin.

        Raises:
            TaskError: a prompt that is too long.
        """
        try:
            answers = self.generator.generate([self._row(prompt) for prompt in prompts], max_new_tokens)
        except TooLong as error:
            raise self._too_long(error, prompts) from None
        return [self.template.answer(answer) for answer in answers]

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """The greedy answer to a prompt, written as it is generated; of a model without a chat template, when it is whole.

        Raises:
            TaskError: a prompt that is too long.
        """
        try:
            if isinstance(self.template, ChatTemplate):
                return self.generator.stream(self._row(prompt), max_new_tokens, output)
            (text,) = self.generator.generate([self._row(prompt)], max_new_tokens)
        except TooLong as error:
            raise TaskError(str(error)) from None
        answer = harmless(self.template.answer(text))
        output.write(answer)
        return answer

    def loglikelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """As `AnsweringModel.loglikelihood`: prompt and answer are tokenised together, as lm-evaluation-harness does.

        Raises:
            TaskError: a prompt that is too long.
        """
        rows = [self._row(prompt) for prompt in prompts]
        options = [
            [self.template.continuation(self.generator.reader, row.text, answer) for answer in of_prompt]
            for row, of_prompt in zip(rows, answers, strict=True)
        ]
        try:
            sums = self.generator.loglikelihood(rows, options)
        except TooLong as error:
            raise self._too_long(error, prompts) from None
        return [
            [(total, len(option)) for total, option in zip(of_sums, of_options, strict=True)]
            for of_sums, of_options in zip(sums, options, strict=True)
        ]

    def metadata(self) -> dict[str, Any]:
        """Its template, and what was taken out of its settings of generation."""
        settings = self.generator.dropped_settings
        notes = {"generation_settings_not_used": settings} if settings else {}
        return {**self.template.metadata(), **self.facts, **notes}

    def _row(self, prompt: Prompt) -> Row:
        images: tuple[Image.Image, ...] = prompt.pixels.images if prompt.images else ()
        return Row(self.template.prompt(prompt.turns, len(images)), images, bool(images) and prompt.pixels.is_blank)

    def _too_long(self, error: TooLong, prompts: Sequence[Prompt]) -> TaskError:
        if not any(prompt.images for prompt in prompts):
            return TaskError(str(error))
        return TaskError(
            f"{error}. Its images take more tokens than the processor says beforehand, or those of a shuffled one do; leave "
            f"out the control (controls=[...]), or make the images smaller"
        )
