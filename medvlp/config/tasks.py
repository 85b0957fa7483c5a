"""Options of evaluation tasks, a dataclass a kind: the files of configs/task/."""

from dataclasses import dataclass, field
from typing import Any

from medvlp.boxes.forms import FORMS
from medvlp.config.evaluation.answering.prompt_sets import check_prompt_sets
from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.config.evaluation.choice import check_choice
from medvlp.config.evaluation.controls import CONTROLS, DEFAULT_CONTROLS
from medvlp.config.evaluation.error_check import ErrorCheckConfig
from medvlp.config.evaluation.labels import MultiLabelConfig, ProbeConfig
from medvlp.config.evaluation.retrieval import ComposedRetrievalConfig, RetrievalConfig, TextRetrievalConfig
from medvlp.config.evaluation.task import TaskConfig
from medvlp.config.evaluation.written_text import WrittenTextConfig
from medvlp.config.rules import ConfigError, at_least, fold, not_in_both, one_of
from medvlp.shards.vocabulary import ANSWER_TYPES
from medvlp.wording.questions import OPTION_LINE, ChoicePrompts, QuestionWording


@dataclass(kw_only=True)
class ZeroShotConfig(TaskConfig):
    """Zero-shot classification: images by their similarity to described classes."""

    kind: str = "zero_shot"
    label: str = ""
    """The label that holds the class, or the metadata field where samples have no such label."""
    classes: dict[str, list[str]] = field(default_factory=dict)
    """Label value → names that go into the templates."""
    exclude: list[str] = field(default_factory=list)
    """Label values that are no class on purpose. A label that is neither, next to a class that no sample has, is refused as
    a slip."""
    templates: list[str] = field(default_factory=list)
    """Prompts with {} for the name."""
    prompt_sets: dict[str, list[str]] = field(default_factory=dict)
    """Instead of templates: several sets of them by name. The scores are of the set that is best on valid_split; the spread
    over all sets is given next to them."""
    positive: str = ""
    """Of two classes the one that sensitivity is about; empty takes the mean of both, as with more classes."""

    def check(self) -> None:
        """Classes that can be told apart, and a prompt for each. Raises ConfigError."""
        super().check()
        task = f"task {self.name}"
        if not self.label:
            raise ConfigError(f"{task}: label is empty; name the label that holds the class")
        if len({fold(value) for value in self.classes}) < max(len(self.classes), 2):
            raise ConfigError(f"{task}: classes={list(self.classes)}, expected two or more that differ in words")
        not_in_both(task, self.classes, self.exclude)
        nameless = [value for value, names in self.classes.items() if not names]
        if nameless:
            raise ConfigError(f"{task}: classes {nameless} have no names; list at least one each")
        if self.templates and self.prompt_sets:
            raise ConfigError(f"{task}: give templates or prompt_sets, not both; a set may have the name you like")
        for key, templates in self.templates_by_name().items():
            unfilled = [template for template in templates if "{}" not in template]
            if unfilled or not templates:
                raise ConfigError(f"{task}: {key} need {{}} for the class name; found {unfilled or 'none at all'}")
        if self.positive and (self.positive not in self.classes or len(self.classes) != 2):
            raise ConfigError(
                f"{task}: positive={self.positive!r}, expected one of two classes; found {list(self.classes)}"
            )

    def templates_by_name(self) -> dict[str, list[str]]:
        """Key of the file → templates, for messages."""
        if not self.prompt_sets:
            return {"templates": self.templates}
        return {f"prompt_sets.{name}": templates for name, templates in self.prompt_sets.items()}


@dataclass(kw_only=True)
class ClassificationConfig(TaskConfig):
    """Supervised classification: images by the scores of a trained head."""

    kind: str = "classification"
    head: str = ""
    """The head of the classifier; empty where it has one only."""
    label: str = ""
    """The label that holds the class (or several, as the head is), where these data have it elsewhere than those that the head
    was trained on."""
    exclude: list[str] = field(default_factory=list)
    """Label values that are no class on purpose, next to those of the head."""
    threshold: float | None = 0.5
    """Of several labels: a class is called shown from this probability on; null chooses a threshold a class on valid_split, where
    F1 is highest."""
    positive: str = ""
    """Of two classes the one that sensitivity is about; empty takes the mean of both, as with more classes."""

    def check(self) -> None:
        """A threshold that is a probability. Raises ConfigError."""
        super().check()
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError(f"task {self.name}: threshold={self.threshold}, expected a probability between 0 and 1")


@dataclass(kw_only=True)
class VqaConfig(TaskConfig):
    """Visual question answering: questions of conversations, answered in free text."""

    kind: str = "vqa"
    valid_limit: int = 0
    """Questions asked during training, spread over the split; 0 asks all."""
    instruction: str = ""
    """Text appended to every question, on a line of its own; empty asks as trained."""
    instructions: dict[str, str] = field(default_factory=dict)
    """Instead of instruction: several by name, each of which asks all questions. The scores are of the one that is best on
    valid_split; the spread over all is given next to them."""
    languages: list[str] = field(default_factory=list)
    """Languages of the questions that are asked, e.g. [en]; empty asks all."""
    answer_types: list[str] = field(default_factory=list)
    """Of closed, open, multiple_choice, number, set, boxes; empty asks all."""
    scorers: list[str] = field(default_factory=lambda: ["letter_likelihood", "text_likelihood", "generated"])
    """How multiple choice is scored: letter_likelihood (of the options' letters), text_likelihood (of their texts), generated
    (the option that the reply names), most_similar (the option whose text it resembles most)."""
    choice_prompts: dict[str, str] = field(default_factory=dict)
    """Scorer → the prompt that it asks with: {question}, {options}, {candidates} (texts without letters), {instruction}."""
    option_line: str = OPTION_LINE
    """One of the {options}, with {letter} and {text}."""
    box_form: str = ""
    """How boxes are written in questions and answers, such as shares or qwen2_vl (docs/boxes.md); empty: as the model was trained
    with, or as its publisher wrote them."""
    box_words: bool = True
    """Whether a question that asks for boxes says in which form."""
    max_new_tokens: int = 64
    """Tokens of an answer at most."""
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    prompt_sets: dict[str, Any] = field(default_factory=dict)
    """Several by name, each with keys that replace the task's: instruction, choice_prompts, option_line, max_new_tokens,
    prompting. Each asks all questions; the scores are of the one that is best on valid_split."""
    controls: list[str] = field(default_factory=lambda: list(DEFAULT_CONTROLS))
    """What every main score is compared with in `medvlp eval`: best_constant; blank_image, shuffled_images, no_image (left out of
    the prompt), noise_image; of multiple choice rotated_options and none_of_the_above; brand_names and generic_names (of drugs);
    framings that suggest a wrong answer, such as recency_bias. All but the first ask the questions again."""

    def check(self) -> None:
        """Choices and limits. Raises ConfigError."""
        super().check()
        task = f"task {self.name}"
        for value in self.answer_types:
            one_of(f"{task}: answer_types", value, ANSWER_TYPES)
        for value in self.controls:
            one_of(f"{task}: controls", value, CONTROLS)
        if self.instruction and self.instructions:
            raise ConfigError(f"{task}: give instruction or instructions, not both")
        if len(set(self.instructions.values())) < len(self.instructions):
            raise ConfigError(f"{task}: instructions={dict(self.instructions)}: two of them are the same text")
        instructions = [text for text in (self.instruction, *self.instructions.values()) if text]
        check_choice(task, self.scorers, self.choice_prompts, self.option_line, instructions)
        if self.instructions and self.choice_prompts.get("generated", "{instruction}").count("{instruction}") == 0:
            raise ConfigError(
                f"{task}: instructions are given, and choice_prompts.generated has no {{instruction}} for them"
            )
        if self.box_form:
            one_of(f"{task}: box_form", self.box_form, tuple(FORMS))
        at_least(f"{task}: max_new_tokens", self.max_new_tokens, 1)
        at_least(f"{task}: valid_limit", self.valid_limit, 0)
        self.prompting.check(task, self.max_new_tokens, self.split)
        check_prompt_sets(self)

    def wording(self) -> QuestionWording:
        """The words around its questions; of several instructions the first."""
        choice = ChoicePrompts(tuple(self.scorers), dict(self.choice_prompts), self.option_line)
        return QuestionWording(next(iter(self.instructions.values()), self.instruction), choice)


TASKS: dict[str, tuple[type[TaskConfig], str]] = {
    "zero_shot": (ZeroShotConfig, "medvlp.eval.zero_shot:ZeroShot"),
    "classification": (ClassificationConfig, "medvlp.eval.classification.task:Classification"),
    "multi_label": (MultiLabelConfig, "medvlp.eval.multi_label.task:MultiLabel"),
    "probe": (ProbeConfig, "medvlp.eval.probes.task:Probe"),
    "retrieval": (RetrievalConfig, "medvlp.eval.retrieval.image_text:Retrieval"),
    "text_retrieval": (TextRetrievalConfig, "medvlp.eval.retrieval.texts:TextRetrieval"),
    "composed_retrieval": (ComposedRetrievalConfig, "medvlp.eval.retrieval.composed:ComposedRetrieval"),
    "vqa": (VqaConfig, "medvlp.eval.vqa.task:Vqa"),
    "text": (WrittenTextConfig, "medvlp.eval.text.task:WrittenText"),
    "error_check": (ErrorCheckConfig, "medvlp.eval.error_check.task:ErrorCheck"),
}
"""Kind → its options, and the class that measures a model, imported when a task of the kind is built."""
