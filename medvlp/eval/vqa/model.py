"""An assistant as tasks ask it: conversations and images → texts and likelihoods. L: tokens of a prompt; S: side of an image."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.images import Pictures
from medvlp.models.llava.generate import BatchedGenerator, Ids, Job
from medvlp.shards import Turn


class Prompt(NamedTuple):
    """A prompt: turns that end with the user's, and the images that they are about.

    images: how many. pixels: (images, 3, S, S), or (0,) without images. Prompts in a row that hold the very same tensor
    are about the same images, which are then looked at once.
    """

    turns: Sequence[Turn]
    images: int
    pixels: Tensor


@dataclass(frozen=True)
class VqaModel:
    """An assistant that answers questions about images.

    generator: token ids → texts and likelihoods.
    encoder: conversations → token ids.
    pictures: a sample → pixels of its images as the assistant's tower wants them.
    blank_shape: (1, 3, S, S), pixels of one image.
    identity: hash of the weights.
    """

    offers: ClassVar[tuple[str, ...]] = ("generate", "loglikelihood")

    generator: BatchedGenerator
    encoder: ChatEncoder
    pictures: Pictures
    blank_shape: tuple[int, ...]
    identity: str

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The greedy answer to each prompt."""
        return self.generator.generate([self._job(prompt) for prompt in prompts], max_new_tokens)

    def loglikelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """For each prompt and each of its possible answers, the answer's log-probability in nats and its number of tokens."""
        continuations = [
            [self._continuation(prompt.turns, answer, prompt.images) for answer in answers_of_prompt]
            for prompt, answers_of_prompt in zip(prompts, answers, strict=True)
        ]
        return self.generator.loglikelihood([self._job(prompt) for prompt in prompts], continuations)

    def fits(
        self,
        turns: Sequence[Turn],
        option_turns: Sequence[Turn],
        images: int,
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """Whether the model has positions for a prompt of `turns` with an answer of so many tokens, or with any of the
        options, as long as they are behind `option_turns`.

        Raises:
            BadSample: as `ChatEncoder.encode`.
        """
        capacity = self.generator.longest - len(self.encoder.prompt(turns, images))
        lengths = [len(self._continuation(option_turns, option, images)) for option in options]
        return capacity >= max(max_new_tokens, *lengths, 0)

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """A prompt as the model reads it, the tokens of each image as one."""
        ids = torch.from_numpy(self.encoder.prompt(turns, images))
        number = torch.cumsum(ids == self.encoder.image_id, 0) - 1
        first_of_image = ids[(ids != self.encoder.image_id) | (number % self.encoder.image_tokens == 0)]
        return self.encoder.decode(first_of_image.tolist())

    def blank(self, images: int) -> Tensor:
        """(images, 3, S, S): 0 after normalisation, which is the processor's mean colour; (0,) for no image."""
        return torch.zeros(images, *self.blank_shape[1:]) if images else torch.empty(0)

    def metadata(self) -> dict[str, Any]:
        """Its template's hash and the tokens of an image, which decide a prompt's tokens."""
        return {
            "template_sha256": hashlib.sha256(self.encoder.template.encode()).hexdigest(),
            "image_tokens": self.encoder.image_tokens,
        }

    def _job(self, prompt: Prompt) -> Job:
        return self.encoder.prompt(prompt.turns, prompt.images), prompt.pixels

    def _continuation(self, turns: Sequence[Turn], answer: str, images: int) -> Ids:
        """Tokens of an answer behind the prompt of `turns`, without the one that would end it.

        Raises:
            BadSample: as `ChatEncoder.encode`.
        """
        dialogue = self.encoder.encode([*turns, Turn("assistant", answer)], images).ids
        ids = dialogue[len(self.encoder.prompt(turns, images)) :]
        return ids[:-1] if ids[-1] in self.generator.stop_ids else ids
