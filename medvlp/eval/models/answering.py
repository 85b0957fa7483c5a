"""Models that answer conversations about images, as tasks ask them: texts, and likelihoods of continuations."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TextIO

from medvlp.shards import Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

WITHHELD = "withheld: a language model"
"""What a protocol says of images that a model without eyes was asked about."""


class Prompt(NamedTuple):
    """A prompt: turns that end with the user's, and the images that they are about.

    images: how many. pixels: what the model's `pictures`, `gathered` or `blank` gave for them, which only the model can
    read. Prompts in a row that hold the very same object are about the same images, which may then be looked at once.
    question: what is asked, as the task knows it, and in the words of which scorer; nothing to a model.
    """

    turns: Sequence[Turn]
    images: int
    pixels: Any
    question: Any = None
    scorer: str = ""


class Sampling(NamedTuple):
    """How responses are sampled: at a temperature above 0, from the likeliest tokens that together have the probability top_p."""

    temperature: float
    top_p: float = 1.0
    seed: int = 0

    def seed_of(self, turns: Sequence[Turn], number: int) -> int:
        """The seed of one response: the same in every batch, and another one for each prompt and each number."""
        words = "\0".join(f"{turn.role}\0{turn.text}" for turn in turns)
        digest = hashlib.sha256(f"{self.seed}\0{number}\0{words}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big")

    def request(self, number: int) -> dict[str, Any]:
        """What decides a sampled response next to its prompt, for `question_key`."""
        return {**self._asdict(), "sample": number}


class Answer(str):
    """An answer of a model that says more than its text.

    finish: why it ended ("stop", "length", "content_filter" ...). usage: counts of what it took, such as tokens. request: names
    what was asked; answers of one request are one answer, and its usage counts once.
    """

    finish: str
    usage: Mapping[str, int]
    request: str

    def __new__(cls, text: str, finish: str = "", usage: Mapping[str, int] | None = None, request: str = "") -> Self:
        """A text with what is known of it."""
        answer = super().__new__(cls, text)
        answer.finish, answer.usage, answer.request = finish, dict(usage or {}), request
        return answer


class AnsweringModel(Protocol):
    """A model that answers. Its tokens, templates and pixels are its own affair: tasks know turns and texts only."""

    @property
    def offers(self) -> tuple[str, ...]:
        """`generate`, and `loglikelihood` where it gives likelihoods."""

    @property
    def identity(self) -> str:
        """Hash of the weights, and of all else that decides the answers."""

    @property
    def takes_images(self) -> bool:
        """Whether it sees. Another one is asked the same questions with their images withheld."""

    @property
    def takes_several_images(self) -> bool:
        """Whether images can stand in several turns of a prompt."""

    def pictures(self, sample: Sample) -> Any:
        """A sample's images, in the order of their names. Raises BadSample: one that cannot be read."""

    def gathered(self, images: Sequence[tuple[Any, int]]) -> Any:
        """Images of several samples as those of one: (what `pictures` gave, position there) of each."""

    def blank(self, count: int) -> Any:
        """So many images that show nothing: the mean colour of what the model was trained on."""

    def fits(
        self,
        turns: Sequence[Turn],
        option_turns: Sequence[Turn],
        images: Sequence[bytes],
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """Whether the model has positions for a prompt of `turns` with an answer of so many tokens, or with any of the
        options, as long as they are behind `option_turns`. images: the image files.

        Raises:
            BadSample: turns that it cannot be asked, such as a control token in the text.
        """

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """A prompt as the model reads it, the tokens of each image as one."""

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The greedy answer to each prompt; an `Answer` where more is known than its text."""

    def sample(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], sampling: Sampling, max_new_tokens: int
    ) -> list[str]:
        """A sampled answer to each prompt. numbers: which of its prompt's samples each is; the same number gives the same one."""

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """The greedy answer to one prompt, its words written as they come, without what could steer a terminal."""

    def loglikelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """For each prompt and each of its possible answers, the answer's log-probability in nats and its number of tokens.

        Never called where it is not offered.
        """

    def metadata(self) -> dict[str, Any]:
        """What of the model decides a prompt's tokens and an answer's words, for the protocol. Its `decoding` replaces the
        task's own words."""


class FrontModel:
    """What models in front of another one tell of it: its facts. How they are asked is theirs."""

    model: AnsweringModel

    @property
    def offers(self) -> tuple[str, ...]:
        """As the model."""
        return self.model.offers

    @property
    def identity(self) -> str:
        """As the model."""
        return self.model.identity

    @property
    def takes_images(self) -> bool:
        """As the model."""
        return self.model.takes_images

    @property
    def takes_several_images(self) -> bool:
        """As the model."""
        return self.model.takes_several_images

    @property
    def box_style(self) -> Any:
        """As the model; None of one that does not say how it writes boxes."""
        return getattr(self.model, "box_style", None)

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """As the model."""
        return self.model.prompt_text(turns, images)


def without_images(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns as they are for a model that takes no images."""
    return tuple(
        Turn(turn.role, turn.text.replace(f"{IMAGE_TOKEN}\n", "").replace(IMAGE_TOKEN, "").strip()) for turn in turns
    )
