"""Options of tasks that look for an error in a text."""

from dataclasses import dataclass, field

from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.config.evaluation.controls import IMAGE_CONTROLS
from medvlp.config.evaluation.task import TaskConfig
from medvlp.config.rules import ConfigError, at_least, one_of

ALL_CORRECT_CONTROL = "all_correct"
ERROR_CONTROLS = (ALL_CORRECT_CONTROL, *IMAGE_CONTROLS)


@dataclass(kw_only=True)
class ErrorCheckConfig(TaskConfig):
    """Error check: texts of numbered sentences, right or with one error, which is to be found and corrected."""

    kind: str = "error_check"
    instruction: str = ""
    """Text appended to every text, on a line of its own: what the reply should look like."""
    metrics: list[str] = field(default_factory=lambda: ["rouge_1"])
    """How corrections are compared: rouge_1, bert_score, and names of plug-ins; with bleurt among them the aggregate is given."""
    bert_model: str = ""
    """The encoder of bert_score: a folder or a name of the Hugging Face hub, with @ and a revision if wanted."""
    bert_layer: int = -1
    """Its layer whose vectors are compared; 0 is the embeddings, -1 the last."""
    bert_baseline: float = 0.0
    """What bert_score is rescaled by, (f1 - baseline) / (1 - baseline); 0 leaves it as it is."""
    languages: list[str] = field(default_factory=list)
    """Languages of the texts that are asked about, e.g. [en]; empty asks all."""
    max_new_tokens: int = 256
    """Tokens of a reply at most."""
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    """Examples in front of every text, chains of thought, votes over samples; a vote is on the sentence."""
    valid_limit: int = 0
    """Texts asked about during training, spread over the split; 0 asks all."""
    controls: list[str] = field(default_factory=lambda: [ALL_CORRECT_CONTROL])
    """What the main scores are compared with in `medvlp eval`: all_correct (every text is said to be right), and of texts about
    images blank_image, shuffled_images, no_image, noise_image."""

    def check(self) -> None:
        """Choices and limits. Raises ConfigError."""
        super().check()
        task = f"task {self.name}"
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise ConfigError(f"{task}: metrics={list(self.metrics)}, expected at least one, each once")
        if ("bert_score" in self.metrics) != bool(self.bert_model):
            raise ConfigError(f"{task}: metrics has bert_score and bert_model names its encoder, or neither")
        if not self.bert_baseline < 1:
            raise ConfigError(f"{task}: bert_baseline={self.bert_baseline}, expected less than 1")
        for value in self.controls:
            one_of(f"{task}: controls", value, ERROR_CONTROLS)
        at_least(f"{task}: max_new_tokens", self.max_new_tokens, 1)
        at_least(f"{task}: valid_limit", self.valid_limit, 0)
        self.prompting.check(task, self.max_new_tokens, self.split)
