"""What every evaluation task has."""

import shlex
from dataclasses import dataclass, field
from difflib import get_close_matches

from omegaconf import MISSING

from medvlp.config.rules import ConfigError, check_name

GROUPS = {
    "classification": "images into classes, one class an image",
    "cxr": "chest X-rays",
    "dermatology": "skin",
    "exams": "multiple-choice questions of exams",
    "histology": "tissue under the microscope",
    "multi_label": "images and findings, any number of them an image",
    "radiology": "CT, MRI, X-ray and ultrasound",
    "reliability": "pairs, framings and traps that a sound answer survives",
    "retrieval": "images by texts, texts by images",
    "text": "captions, reports and other written answers",
    "vqa": "questions about images",
}
"""Groups of the tasks that are shipped → what their tasks are about. A task file may name others."""
OF_THE_LISTING = ("groups", "prep")
"""Keys of every task that decide nothing that is measured."""


@dataclass(kw_only=True)
class TaskConfig:
    """What every evaluation task has."""

    name: str = MISSING
    """Name in results.jsonl."""
    kind: str = MISSING
    """How a model is measured, such as zero_shot, probe, retrieval or vqa: `TASKS`."""
    data: str = MISSING
    """Folder above the splits."""
    split: str = "test"
    """Split that `medvlp eval` scores."""
    valid_split: str = "valid"
    """Split that is scored during training."""
    groups: list[str] = field(default_factory=list)
    """Groups that it is of, e.g. [vqa, radiology]: `tasks=[vqa]` runs them all."""
    prep: list[str] = field(default_factory=list)
    """Arguments of `medvlp prep` that make its data, without input and output, e.g. [source=slake, options.language=en]."""

    def check(self) -> None:
        """The rules of these options. Raises ConfigError."""
        check_name("a task's name", self.name)
        for group in self.groups:
            check_name(f"task {self.name}: groups", group)
            close = get_close_matches(group, GROUPS, n=1, cutoff=0.75)
            if group not in GROUPS and close:
                raise ConfigError(f"task {self.name}: groups={group!r} is no group; did you mean {close[0]!r}?")
        keys = [argument.partition("=")[0] for argument in self.prep]
        if self.prep and (
            keys.count("source") != 1 or {"input", "output"} & set(keys) or any("=" not in a for a in self.prep)
        ):
            raise ConfigError(
                f"task {self.name}: prep={self.prep}, expected the arguments of `medvlp prep` but input and output, e.g. "
                f"[source=slake, options.language=en]"
            )

    def prep_command(self, needs_input: bool = True) -> str:
        """The command that makes its data."""
        words = [shlex.quote(argument) for argument in self.prep] or ["source=<name>"]
        files = ["input=<the publisher's files>"] if needs_input else []
        return " ".join(["medvlp prep", *words, *files, f"output={shlex.quote(self.data)}"])
