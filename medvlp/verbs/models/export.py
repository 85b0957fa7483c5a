"""`medvlp export`: a checkpoint → a folder that open_clip or transformers opens, refused unless they compute the same."""

from collections.abc import Sequence
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.config import ConfigError, ExportConfig, compose, verb_help
from medvlp.config.model_names import ModelName, parse_model_name


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp export`; returns the exit code."""
    return run_verb("export", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return verb_help("export")


def parse(args: list[str]) -> ExportConfig:
    """The configuration. Raises ConfigError."""
    config: ExportConfig = compose("export", args)
    if Path(config.output).exists():
        raise ConfigError(f"output={config.output} exists; name a new folder")
    return config


def work(config: ExportConfig) -> int:
    """Export one checkpoint."""
    from medvlp.builders import model_kind
    from medvlp.environment import set_up_libraries

    set_up_libraries()
    name = parse_model_name(config.checkpoint)
    check_format(config, name)
    output = Path(config.output)
    if name.scheme == "checkpoint" and model_kind(name.target) == "classifier":
        from medvlp.builders.classifier import load_classifier
        from medvlp.export import classifier as classifiers

        checkpoint = load_classifier(name.target)
        difference = classifiers.export_classifier(
            checkpoint.classifier, checkpoint.config, checkpoint.weights_sha256, output
        )
        print(classifiers.summary(output, difference))
    elif config.format == "hf":
        from medvlp.builders import load_assistant
        from medvlp.export import assistant as assistants

        trained = load_assistant(name.target)
        check = assistants.export_assistant(
            trained.assistant,
            trained.encoder,
            trained.config,
            trained.weights_sha256,
            output,
            separate=config.adapter == "separate",
        )
        print(assistants.summary(output, check))
    else:
        from medvlp.builders.clip import clip_named
        from medvlp.export import open_clip

        clip, weights_sha256 = clip_named(name, "checkpoint")
        origin = "" if name.scheme == "checkpoint" else name.text
        print(open_clip.summary(output, open_clip.export_clip(clip, weights_sha256, output, origin)))
    return 0


def check_format(config: ExportConfig, name: ModelName) -> None:
    """The format suits what the checkpoint holds.

    Raises:
        ConfigError: it does not; the message names the one that does.
    """
    from medvlp.builders import model_kind

    if name.scheme == "hf":
        raise ConfigError(
            f"{name.text} is in transformers' format already; copy its folder (of a hub's model: hf download {name.target} "
            f"--local-dir {config.output})"
        )
    if name.scheme == "api":
        raise ConfigError(f"{name.text} lies behind a server, which does not give its weights away")
    kind = model_kind(name.target) if name.scheme == "checkpoint" else "clip"
    expected = {"clip": "open_clip", "llava": "hf", "classifier": "hf"}.get(kind)
    if expected is None:
        raise ConfigError(f"{config.checkpoint} holds model.kind={kind!r}, which has no export format")
    if config.format != expected:
        model = {"clip": "a CLIP model", "llava": "an assistant", "classifier": "a classifier"}[kind]
        raise ConfigError(
            f"{config.checkpoint} holds {model}, which is exported with format={expected}, not {config.format}. Choices: "
            f"open_clip (CLIP models), hf (assistants, classifiers)"
        )
    if kind != "llava" and config.adapter != "merged":
        raise ConfigError(f"adapter={config.adapter} is for assistants with LoRA adapters; leave it out")
