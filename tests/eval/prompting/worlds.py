"""A model that tells how it was asked, and splits of questions with answers."""

from dataclasses import dataclass, field, replace

from medvlp.config import VqaConfig
from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.eval.prompting.protocol import Prompting
from medvlp.eval.vqa.questions import QuestionFilter
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import BadSample
from tests.eval.vqa.test_task import NO_INTERVALS, dataset, sample


@dataclass
class Told:
    """Answers by functions of a prompt (turns, pixels): says, and of a number samples; notes all prompts."""

    says: object = lambda prompt: "yes"
    samples: object = lambda prompt, number: "yes"
    likes: object = None
    takes_images: bool = True
    takes_several_images: bool = True
    longest: int = 100_000
    identity: str = "told"
    prompts: list = field(default_factory=list)
    sampled: list = field(default_factory=list)
    unreadable: tuple = ()

    @property
    def offers(self):
        return ("generate", "loglikelihood") if self.likes else ("generate",)

    def pictures(self, sample):
        if sample.key in self.unreadable:
            raise BadSample("undecodable_image")
        return [f"{sample.key}/{name}" for name in sorted(sample.images)]

    def gathered(self, images):
        return [pictures[position] for pictures, position in images]

    def blank(self, count):
        return ["blank"] * count

    def fits(self, turns, option_turns, images, options, max_new_tokens):
        assert all(isinstance(image, bytes) for image in images)
        assert sum(turn.text.count("<image>") for turn in turns) == len(images), (turns, len(images))
        if any("<|im_end|>" in turn.text for turn in turns):
            raise BadSample("special_token_in_text")
        return sum(len(turn.text) for turn in turns) + max_new_tokens <= self.longest

    def prompt_text(self, turns, images):
        return " | ".join(turn.text for turn in turns)

    def generate(self, prompts, max_new_tokens):
        self.prompts += prompts
        return [self.says(prompt) for prompt in prompts]

    def sample(self, prompts, numbers, sampling, max_new_tokens):
        self.sampled += [(prompt, number, sampling) for prompt, number in zip(prompts, numbers, strict=True)]
        return [self.samples(prompt, number) for prompt, number in zip(prompts, numbers, strict=True)]

    def loglikelihood(self, prompts, answers):
        self.prompts += prompts
        return [
            [(self.likes(prompt, text), len(text)) for text in of] for prompt, of in zip(prompts, answers, strict=True)
        ]

    def metadata(self):
        return {"parameters": {"temperature": 0}}


def choice(question, letter, **more):
    """A question of multiple choice."""
    options = {"A": "heart", "B": "lung", "C": "liver"}
    return question, options[letter], "multiple_choice", {"options": options, "answer_letter": letter, **more}


def task(folder, scored, train=(), question_filter=None, by=None, **keys):
    """A task over `scored`, whose examples are in the split train."""
    config = PromptingConfig(**keys)
    config.check("made", 512, "test")
    split = dataset(folder, train, "train") if train else None
    made = Vqa(
        "made", dataset(folder, scored), question_filter or QuestionFilter(), controls=(), bootstrap=NO_INTERVALS
    )
    return replace(made, prompting=Prompting(config, split, by))


def config(**keys):
    """A task's configuration with a protocol."""
    return VqaConfig(name="made", data="data", max_new_tokens=512, prompting=PromptingConfig(**keys))


__all__ = ["NO_INTERVALS", "Told", "choice", "config", "dataset", "sample", "task"]
