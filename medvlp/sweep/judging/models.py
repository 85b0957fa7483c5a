"""The judges of a sweep: what identifies them, the models, and what they have to do with the models that they judge."""

import re
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

from medvlp.builders.models import identity_of, model_kind_of, open_model, options_of
from medvlp.config import ConfigError, EvalConfig, TaskConfig
from medvlp.config.evaluation.answering.judge import LIKELIHOOD, load_rubric
from medvlp.config.model_names import ModelName, parse_model_name
from medvlp.eval.judge.scoring import JUDGED_KINDS, Judge
from medvlp.eval.vqa.metrics import CLOSED, OPEN

FORMAT = 1
"""Of verdicts: raised where the same reply comes to another verdict."""


def judge_names(config: EvalConfig) -> list[ModelName]:
    """The models that judge, none or one or two.

    Raises:
        ConfigError: not understood, models that do not answer, or do not offer what is asked of them.
    """
    names = []
    for key, text in (("judge.model", config.judge.model), ("judge.second", config.judge.second)):
        if text:
            name = parse_model_name(text, key)
            kind = model_kind_of(name)
            if "generate" not in kind.offers:
                raise ConfigError(f"{key}={text} is {kind.title}, which writes no verdicts; name a model that answers")
            if config.judge.scoring == LIKELIHOOD and "loglikelihood" not in kind.offers:
                raise ConfigError(
                    f"judge.scoring=likelihood: {key}={text} is {kind.title}, which gives no likelihoods; set "
                    f"judge.scoring=text, or name an hf: model or a checkpoint"
                )
            sees = kind.takes_images and (name.scheme != "api" or config.api.images)
            if config.judge.images and not sees:
                raise ConfigError(
                    f"judge.images=true: {key}={text} is {kind.title} that is shown no images; name one that takes images, or "
                    f"leave the key out"
                )
            names.append(name)
    return names


def judge_parts(config: EvalConfig, root: Path | None) -> dict[str, Any]:
    """All that decides verdicts, next to the answers: of a cell's identity. Empty where nobody judges."""
    names = judge_names(config)
    if not names:
        return {}
    return {
        "format": FORMAT,
        "models": [{"identity": identity_of(name, root), "options": options_of(name, config)} for name in names],
        "rubric": asdict(load_rubric(config.judge.rubric)),
        "context": list(config.judge.context),
        "max_new_tokens": config.judge.max_new_tokens,
        "images": config.judge.images,
        "controls": list(config.judge.controls),
        "scoring": config.judge.scoring,
    }


def is_judged_task(task: TaskConfig) -> bool:
    """Whether answers of a task can be in free text."""
    types = getattr(task, "answer_types", [])
    return task.kind in JUDGED_KINDS and (not types or bool({CLOSED, OPEN} & set(types)))


def open_judges(config: EvalConfig, device: str) -> tuple[Judge, ...]:
    """The judges, whose verdicts are kept in the cache. Raises UserError."""
    models: list[Any] = [open_model(name, device, config) for name in judge_names(config)]
    return tuple(Judge(name.text, model) for name, model in zip(judge_names(config), models, strict=True))


def flag_of(judge: ModelName, judge_identity: str, model: ModelName, model_identity: str) -> str:
    """What a judge has to do with a model that it judges; empty where nothing is known."""
    if judge_identity == model_identity:
        return "the judge is the judged model"
    family = family_of(judge)
    return f"the judge is of the judged model's family ({family})" if family and family == family_of(model) else ""


def family_of(name: ModelName) -> str:
    """The letters that a model's own name begins with (qwen, gpt, medgemma), in lower case; empty of checkpoints, whose names are
    their runs'."""
    if name.scheme == "checkpoint":
        return ""
    own_name = name.target.rpartition("#")[2] if name.scheme == "api" else name.target
    match = re.match(r"[a-z]+", PurePath(own_name).name.lower())
    return match[0] if match else ""
