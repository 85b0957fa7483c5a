"""Options of tasks over written text: captions, reports, summaries."""

from dataclasses import dataclass, field
from typing import Any

from medvlp.config.evaluation.answering.prompt_sets import check_prompt_sets
from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.config.evaluation.controls import IMAGE_CONTROLS
from medvlp.config.evaluation.task import TaskConfig
from medvlp.config.rules import ConfigError, at_least, one_of

TEXT_CONTROLS = ("other_reference", *IMAGE_CONTROLS)
TEXT_METRICS = ("bleu", "chrf", "rouge", "meteor", "cider_d", "findings")
"""Without bert_score, and without plug-ins, whose names the machine knows."""
TOKENIZATIONS = ("words", "13a", "whitespace", "characters")


@dataclass(kw_only=True)
class WrittenTextConfig(TaskConfig):
    """Written text: captions, reports, summaries, compared with the samples' own."""

    kind: str = "text"
    references: list[str] = field(default_factory=lambda: ["caption"])
    """Text fields of a sample that the model's text is compared with; those that a sample has."""
    instruction: str = ""
    """What the model is asked; {text} stands for the source, which otherwise follows in a paragraph of its own."""
    source: str = ""
    """A text field that the model is given, such as the findings that it sums up; empty gives none."""
    show_images: bool = True
    """Whether the model is shown the sample's images; not for texts alone."""
    metrics: list[str] = field(default_factory=lambda: ["bleu", "chrf", "rouge", "meteor", "cider_d"])
    """Of bleu, chrf, rouge, meteor, cider_d, findings (thoracic, in English); bert_score; and names of plug-ins."""
    tokenization: str = "words"
    """Of words, 13a, whitespace, characters: how bleu, rouge, meteor and cider_d cut texts."""
    bert_model: str = ""
    """The encoder of bert_score: a folder or a name of the Hugging Face hub, with @ and a revision if wanted."""
    bert_layer: int = -1
    """Its layer whose vectors are compared; 0 is the embeddings, -1 the last."""
    max_new_tokens: int = 256
    """Tokens of a text at most."""
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    """Examples in front of every prompt, and the temperature of texts that are sampled."""
    prompt_sets: dict[str, Any] = field(default_factory=dict)
    """Several ways to ask by name, each a mapping of instruction, max_new_tokens and prompting as far as it replaces them; the
    one that is best on valid_split gives the scores."""
    prompt_set_metric: str = ""
    """Metric that the choice among prompt_sets is by, as results name it; empty takes rouge_l, or the first of the metrics."""
    valid_limit: int = 0
    """Texts written during training, spread over the split; 0 writes all."""
    controls: list[str] = field(default_factory=lambda: list(TEXT_CONTROLS[:3]))
    """What the main scores are compared with in `medvlp eval`; those with images ask for all texts again."""

    def check(self) -> None:
        """Fields, choices and limits. Raises ConfigError."""
        super().check()
        task = f"task {self.name}"
        if not self.references or not all(self.references):
            raise ConfigError(f"{task}: references={list(self.references)}, expected text fields, e.g. [caption]")
        if self.source in self.references:
            raise ConfigError(f"{task}: source={self.source} is a reference too: the model would be given the answer")
        if not self.instruction.strip():
            raise ConfigError(f"{task}: instruction is empty; say what the model is to write, e.g. Describe the image.")
        if "{text}" in self.instruction and not self.source:
            raise ConfigError(f"{task}: instruction has {{text}}, and source names no text field to put there")
        if not self.source and not self.show_images:
            raise ConfigError(f"{task}: show_images=false and no source: the model would have nothing to write about")
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise ConfigError(f"{task}: metrics={list(self.metrics)}, expected at least one, each once")
        if ("bert_score" in self.metrics) != bool(self.bert_model):
            raise ConfigError(f"{task}: metrics has bert_score and bert_model names its encoder, or neither")
        one_of(f"{task}: tokenization", self.tokenization, TOKENIZATIONS)
        for value in self.controls:
            one_of(f"{task}: controls", value, TEXT_CONTROLS)
        at_least(f"{task}: max_new_tokens", self.max_new_tokens, 1)
        at_least(f"{task}: valid_limit", self.valid_limit, 0)
        self._check_prompting(task)
        check_prompt_sets(self)

    def _check_prompting(self, task: str) -> None:
        """Texts have no vote, and no answer behind their reasons. Raises ConfigError."""
        self.prompting.check(task, self.max_new_tokens, self.split)
        unfit = {
            "samples": self.prompting.samples > 1,
            "chain_of_thought": self.prompting.chain_of_thought,
            "refinements": self.prompting.refinements > 0,
        }
        for name in (name for name, is_set in unfit.items() if is_set):
            raise ConfigError(
                f"{task}: prompting.{name} is for answers, of which most can agree; kind: text has no votes"
            )
        if self.prompting.selection == "nearest" and self.prompting.embedding != "image" and not self.source:
            raise ConfigError(
                f"{task}: prompting.selection=nearest compares sources, and the task has no source; set "
                "prompting.embedding: image and an embedder"
            )
