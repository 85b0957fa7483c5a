"""Models of transformers as tasks ask them: turns by their own chat template, images by their own processor."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TextIO

from PIL import Image

from medvlp.boxes.forms import BoxStyle
from medvlp.data.images.decode import decode_image, size_of
from medvlp.eval.errors import PromptTooLong, TaskError
from medvlp.eval.models.answering import Prompt, Sampling
from medvlp.eval.models.templates import ChatTemplate, PlainImageText, PromptTemplate
from medvlp.models.hf.answering import Generator, Row, TooLong
from medvlp.models.sampling import Noise
from medvlp.shards import BadSample, Sample, Turn
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
    box_style: how it writes boxes.
    """

    offers: ClassVar[tuple[str, ...]] = ("generate", "loglikelihood")

    generator: Generator
    template: PromptTemplate
    takes_images: bool
    max_pixels: int
    identity: str
    facts: dict[str, Any]
    execution: str
    box_style: BoxStyle = field(default_factory=BoxStyle)

    @property
    def takes_several_images(self) -> bool:
        """Whether images can stand in several turns: not without a chat template, which puts them all in front."""
        return self.takes_images and not isinstance(self.template, PlainImageText)

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
        """Whether prompt and answer fit, as `AnsweringModel.fits`.

        Raises:
            BadSample: turns that cannot be asked, an option without tokens, an image of more than `max_pixels`.
        """
        reader: Any = self.generator.reader
        text = self.template.prompt(turns, len(images))
        option_text = self.template.prompt(option_turns, len(images))
        longest = self.generator.longest
        if longest is None:
            return True
        image_tokens = reader.image_tokens(text, self._sizes(images)) if images else 0
        lengths = [len(reader.ids(text)) + max_new_tokens]
        for option in options:
            prompt, ids = self.template.continuation(reader, option_text, option)
            lengths.append(len(reader.ids(prompt)) + len(ids))
        return image_tokens + max(lengths) <= longest

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """A prompt as the template writes it, the tokens of each image as one."""
        return self.template.prompt(turns, images)

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The greedy answer to each prompt; of a model without a chat template, up to where the next question would begin.

        Raises:
            TaskError: a prompt that is too long.
        """
        return self._answers(prompts, max_new_tokens)

    def sample(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], sampling: Sampling, max_new_tokens: int
    ) -> list[str]:
        """A sampled answer to each prompt; numbers: which of its prompt's samples each is. Raises TaskError: as `generate`."""
        seeds = [sampling.seed_of(prompt.turns, number) for prompt, number in zip(prompts, numbers, strict=True)]
        return self._answers(prompts, max_new_tokens, Noise(seeds, sampling.temperature, sampling.top_p))

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """The greedy answer to a prompt, written as it is generated; of a model without a chat template, when it is whole.

        Raises:
            TaskError: a prompt that is too long.
        """
        try:
            is_whole = not isinstance(self.template, ChatTemplate)
            text = self.generator.stream(self._row(prompt), max_new_tokens, io.StringIO() if is_whole else output)
        except TooLong as error:
            raise TaskError(str(error)) from None
        if not is_whole:
            return text
        answer = harmless(self.template.answer(text))
        output.write(answer)
        return answer

    def loglikelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """As `AnsweringModel.loglikelihood`: prompt and answer are tokenised together, as lm-evaluation-harness does.

        Raises:
            TaskError: a prompt that is too long.
            BadSample: an answer without tokens.
        """
        rows, options = [], []
        for prompt, of_prompt in zip(prompts, answers, strict=True):
            row = self._row(prompt)
            split = [self.template.continuation(self.generator.reader, row.text, answer) for answer in of_prompt]
            options.append([ids for _, ids in split])
            rows.append(row._replace(text=split[0][0]) if split else row)
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

    def _answers(self, prompts: Sequence[Prompt], max_new_tokens: int, noise: Noise | None = None) -> list[str]:
        try:
            answers = self.generator.generate([self._row(prompt) for prompt in prompts], max_new_tokens, noise)
        except TooLong as error:
            raise self._too_long(error, prompts) from None
        return [self.template.answer(answer) for answer in answers]

    def _row(self, prompt: Prompt) -> Row:
        images: tuple[Image.Image, ...] = prompt.pixels.images if prompt.images else ()
        return Row(self.template.prompt(prompt.turns, len(images)), images, bool(images) and prompt.pixels.is_blank)

    def _sizes(self, images: Sequence[bytes]) -> list[tuple[int, int]]:
        sizes = [size_of(image) for image in images]
        for height, width in sizes:
            if height * width > self.max_pixels:
                raise BadSample("too_many_pixels", detail=f"{width} × {height} pixels, the cap is {self.max_pixels}")
        return sizes

    def _too_long(self, error: TooLong, prompts: Sequence[Prompt]) -> PromptTooLong:
        if not any(prompt.images for prompt in prompts):
            return PromptTooLong(str(error))
        return PromptTooLong(
            f"{error}. Images of another sample, as a control shows them, take more tokens than its own; leave out the control "
            f"(controls=[...]), or make the images smaller"
        )
