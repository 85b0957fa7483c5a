"""An assistant as tasks ask it: conversations and images → texts and likelihoods. S: side of an image."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TextIO

import torch
from torch import Tensor
from transformers import GenerationConfig

from medvlp.boxes.forms import BoxStyle
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.images.feature_cache import Pictures
from medvlp.eval.errors import PromptTooLong
from medvlp.eval.models.answering import Prompt, Sampling
from medvlp.models.llava.generate import BatchedGenerator, Ids, Job
from medvlp.models.sampling import Noise
from medvlp.shards import Turn
from medvlp.terminal import text_streamer


@dataclass(frozen=True)
class AssistantModel:
    """An assistant of `medvlp train`, which reads the turns by the template that it was trained with.

    generator: token ids → texts and likelihoods.
    encoder: conversations → token ids.
    pictures: a sample → pixels of its images as the assistant's tower wants them: (n, 3, S, S), or (0,) without images.
    blank_shape: (1, 3, S, S), pixels of one image.
    identity: hash of the weights.
    box_style: how it writes boxes.
    """

    offers: ClassVar[tuple[str, ...]] = ("generate", "loglikelihood")
    takes_images: ClassVar[bool] = True
    takes_several_images: ClassVar[bool] = True

    generator: BatchedGenerator
    encoder: ChatEncoder
    pictures: Pictures
    blank_shape: tuple[int, ...]
    identity: str
    box_style: BoxStyle = field(default_factory=BoxStyle)

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The greedy answer to each prompt."""
        return self.generator.generate([self._job(prompt) for prompt in prompts], max_new_tokens)

    def sample(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], sampling: Sampling, max_new_tokens: int
    ) -> list[str]:
        """A sampled answer to each prompt; numbers: which of its prompt's samples each is.

        Raises:
            PromptTooLong: a prompt that is.
        """
        seeds = [sampling.seed_of(prompt.turns, number) for prompt, number in zip(prompts, numbers, strict=True)]
        jobs = [self._job(prompt) for prompt in prompts]
        longest = max((len(ids) for ids, _ in jobs), default=0) + max_new_tokens
        if longest > self.generator.longest:
            raise PromptTooLong(
                f"a prompt with its answer takes {longest} tokens; this language model was made for {self.generator.longest}"
            )
        return self.generator.generate(jobs, max_new_tokens, Noise(seeds, sampling.temperature, sampling.top_p))

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """The greedy answer to a prompt, written as it is generated, as far as there are positions for it."""
        assistant, stop_ids = self.generator.assistant, self.generator.stop_ids
        device = assistant.model.device
        ids_L = torch.from_numpy(self.encoder.prompt(prompt.turns, prompt.images)).to(device)
        streamer = text_streamer(assistant.tokenizer, output)
        assistant.model.generate(
            input_ids=ids_L[None],
            attention_mask=torch.ones_like(ids_L)[None],
            generation_config=GenerationConfig(
                do_sample=False,
                bos_token_id=assistant.tokenizer.bos_token_id,
                eos_token_id=stop_ids,
                pad_token_id=assistant.pad_id,
            ),
            max_new_tokens=min(max_new_tokens, self.generator.longest - len(ids_L)),
            streamer=streamer,
            **({"pixel_values": prompt.pixels.to(device)} if prompt.images else {}),
        )
        return str(streamer.text)

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
        images: Sequence[bytes],
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """Whether prompt and answer fit, as `AnsweringModel.fits`.

        Raises:
            BadSample: as `ChatEncoder.encode`.
        """
        capacity = self.generator.longest - len(self.encoder.prompt(turns, len(images)))
        lengths = [len(self._continuation(option_turns, option, len(images))) for option in options]
        return capacity >= max(max_new_tokens, *lengths, 0)

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """A prompt as the model reads it, the tokens of each image as one."""
        ids = torch.from_numpy(self.encoder.prompt(turns, images))
        number = torch.cumsum(ids == self.encoder.image_id, 0) - 1
        first_of_image = ids[(ids != self.encoder.image_id) | (number % self.encoder.image_tokens == 0)]
        return self.encoder.decode(first_of_image.tolist())

    def gathered(self, images: Sequence[tuple[Tensor, int]]) -> Tensor:
        """(images, 3, S, S), each from its position in the pixels of a sample; (0,) for no image."""
        return torch.stack([pixels[position] for pixels, position in images]) if images else torch.empty(0)

    def blank(self, count: int) -> Tensor:
        """(count, 3, S, S): 0 after normalisation, which is the processor's mean colour; (0,) for no image."""
        return torch.zeros(count, *self.blank_shape[1:]) if count else torch.empty(0)

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
