"""Options of evaluation tasks: the files of configs/task/."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from medvlp.config.rules import ConfigError, check_name, one_of

TASK_KINDS = ("zero_shot", "retrieval", "vqa")
ANSWER_TYPES = ("closed", "open", "multiple_choice")
CONTROLS = ("best_constant", "blank_image", "shuffled_images")


@dataclass(kw_only=True)
class TaskConfig:
    """One evaluation task: a file of configs/task/."""

    name: str = MISSING
    """Name in results.jsonl."""
    kind: str = MISSING
    """zero_shot or retrieval (of a CLIP), or vqa (of an assistant)."""
    data: str = MISSING
    """Folder above the splits."""
    split: str = "test"
    """Split that `medvlp eval` scores."""
    valid_split: str = "valid"
    """Split that is scored during training."""
    valid_limit: int = 0
    """vqa: questions asked during training, spread over the split; 0 asks all."""
    label: str = ""
    """zero_shot: the label that holds the class."""
    classes: dict[str, list[str]] = field(default_factory=dict)
    """zero_shot: label value → names that go into the templates."""
    exclude: list[str] = field(default_factory=list)
    """zero_shot: label values that are no class on purpose. A label that is neither, beside a class that no sample has, is
    refused as a slip."""
    templates: list[str] = field(default_factory=list)
    """zero_shot: prompts with {} for the name."""
    text: str = "caption"
    """retrieval: the text field."""
    recall_at: list[int] = field(default_factory=lambda: [1, 5, 10])
    """retrieval: ranks k of recall@k."""
    instruction: str = ""
    """vqa: text appended to every question, on a line of its own; empty asks as trained."""
    languages: list[str] = field(default_factory=list)
    """vqa: languages of the questions that are asked, e.g. [en]; empty asks all."""
    answer_types: list[str] = field(default_factory=list)
    """vqa: of closed, open, multiple_choice; empty asks all."""
    max_new_tokens: int = 64
    """vqa: tokens of an answer at most."""
    controls: list[str] = field(default_factory=lambda: ["best_constant", "blank_image", "shuffled_images"])
    """vqa: what stands beside every main score in `medvlp eval`; the two with images answer all questions anew."""

    def check(self) -> None:
        """The rules of an evaluation task. Raises ConfigError."""
        check_name("a task's name", self.name)
        task = f"task {self.name}"
        one_of(f"{task}: kind", self.kind, TASK_KINDS)
        for key, values, choices in (
            ("answer_types", self.answer_types, ANSWER_TYPES),
            ("controls", self.controls, CONTROLS),
        ):
            for value in values:
                one_of(f"{task}: {key}", value, choices)
        if self.max_new_tokens < 1 or self.valid_limit < 0:
            raise ConfigError(
                f"{task}: max_new_tokens={self.max_new_tokens} must be at least 1 and valid_limit={self.valid_limit} "
                f"not negative"
            )
