"""Options of a judge: a model that scores written answers by a rubric."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medvlp.config.composition.search import list_options, search_folders
from medvlp.config.composition.yaml_files import read_text
from medvlp.config.evaluation.controls import CONTROLS
from medvlp.config.evaluation.written_text import TEXT_CONTROLS
from medvlp.config.rules import ConfigError, at_least, check_name, one_of, suggestion

GRADES, PAIR = SCALES = ("grades", "pair")
"""What a rubric asks for: one of three grades of an answer, or 1 to 10 for two answers next to each other."""
TEXT, LIKELIHOOD = SCORINGS = ("text", "likelihood")
"""How a verdict is got: read in what the judge writes, or the likeliest of all possible ones."""
PLACEHOLDERS = {
    GRADES: ("question", "context", "images", "reference", "answer"),
    PAIR: ("question", "context", "images", "first", "second"),
}
NEEDED = {GRADES: ("question", "reference", "answer"), PAIR: ("question", "first", "second")}
FOLDER = "configs/rubrics"
JUDGED_CONTROLS = tuple(dict.fromkeys((*CONTROLS[1:], *TEXT_CONTROLS)))
"""Controls that have texts; the best constant has none of its own."""


@dataclass(frozen=True)
class Rubric:
    """What a judge is asked. prompt: with the scale's `PLACEHOLDERS` in braces. text, likelihood: what stands behind it where
    the verdict is got so; empty where the prompt says it itself."""

    name: str
    scale: str
    prompt: str
    text: str = ""
    likelihood: str = ""

    def prompt_for(self, scoring: str) -> str:
        """The prompt, with the words for one of `SCORINGS`."""
        ending = {TEXT: self.text, LIKELIHOOD: self.likelihood}[scoring]
        return "\n\n".join(filter(None, (self.prompt, ending)))


@dataclass(kw_only=True)
class JudgeConfig:
    """Who judges written answers, and how."""

    model: str = ""
    """A model that answers (hf: or api:, a checkpoint) and judges the answers in free text of all models; empty: none."""
    second: str = ""
    """Another one that judges the same, for the agreement of both."""
    rubric: str = "correctness"
    """correctness (right, wrong or not attempted), relative (1 to 10 next to the right answer, in both orders), another file of
    configs/rubrics, or the path of one."""
    context: list[str] = field(default_factory=list)
    """Text fields of the sample that the judge reads, e.g. [caption]."""
    images: bool = False
    """Whether the judge sees the sample's images; a judge that takes none is refused then."""
    controls: list[str] = field(default_factory=list)
    """Controls whose answers are judged too, e.g. [no_image], as far as a task has them."""
    scoring: str = "text"
    """text (the verdict is read in what the judge writes), or likelihood (the likeliest of all verdicts under the judge: none
    is unreadable, and no reasons are given; not of api:, which gives no likelihoods)."""
    max_new_tokens: int = 512
    """Tokens of a verdict at most, its reasons included."""

    def check(self) -> None:
        """A rubric, where there is a judge. Raises ConfigError."""
        at_least("judge.max_new_tokens", self.max_new_tokens, 1)
        if self.second and not self.model:
            raise ConfigError("judge.second is given and judge.model is not; name the first judge too")
        if self.second and self.second == self.model:
            raise ConfigError(
                f"judge.second={self.second} is judge.model; name another model, whose agreement says something"
            )
        one_of("judge.scoring", self.scoring, SCORINGS)
        for name in self.controls:
            one_of("judge.controls", name, JUDGED_CONTROLS)
        if self.model:
            load_rubric(self.rubric)


def load_rubric(name: str) -> Rubric:
    """A rubric by name or path. Raises ConfigError: there is none, or it is not one."""
    path = rubric_path(name)
    text = read_text(path)
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())[:400]}") from None
    is_rubric = isinstance(content, dict) and {"scale", "prompt"} <= set(content) <= {"scale", "prompt", *SCORINGS}
    if not is_rubric or not all(map(_is_text, content.values())):
        raise ConfigError(
            f"{path}: expected `scale: {GRADES}` or `scale: {PAIR}`, a text `prompt`, and texts `text` and `likelihood` or "
            f"neither; nothing else"
        )
    scale, prompt = content["scale"], content["prompt"].strip()
    one_of(f"{path}: scale", scale, SCALES)
    missing = [f"{{{name}}}" for name in NEEDED[scale] if f"{{{name}}}" not in prompt]
    if missing:
        raise ConfigError(f"{path}: prompt lacks {', '.join(missing)}, which a rubric of scale: {scale} needs")
    return Rubric(path.stem, scale, prompt, *(content.get(name, "").strip() for name in SCORINGS))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def rubric_path(name: str) -> Path:
    """The file of a rubric. Raises ConfigError."""
    if name.endswith(".yaml"):
        if Path(name).is_file():
            return Path(name)
        raise ConfigError(f"judge.rubric={name}: no such file")
    check_name("judge.rubric", name)
    for root in search_folders():
        if (path := root / FOLDER / f"{name}.yaml").is_file():
            return path
    names = sorted(list_options(FOLDER))
    raise ConfigError(f"judge.rubric={name}: unknown rubric{suggestion(name, names)} Available: {', '.join(names)}")
