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
            checkpoint.classifier, checkpoint.config, checkpoint.weights_sha256, output, checkpoint.selected
        )
        print(classifiers.summary(output, difference))
    elif config.format in FORMATS["llava"] and name.scheme == "checkpoint" and model_kind(name.target) == "llava":
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
            selected=trained.selected,
        )
        print(assistants.summary(output, check))
    else:
        print(export_clip(name, config.format, output))
    return 0


def export_clip(name: ModelName, format: str, output: Path) -> str:
    """Export a CLIP model; returns what the terminal says of it."""
    from medvlp.builders.clip import clip_named, load_clip
    from medvlp.export.clip.provenance import Provenance

    if name.scheme == "checkpoint":
        trained = load_clip(name.target)
        clip, path = trained.clip, Path(name.target)
        source = Provenance(trained.weights_sha256, "", trained.config, path, trained.step, trained.selected)
    else:
        clip, weights_sha256 = clip_named(name, "checkpoint")
        source = Provenance(weights_sha256, name.text)
    if format == "transformers":
        from medvlp.export.clip import dual_encoders

        return dual_encoders.summary(output, *dual_encoders.export_dual_encoder(clip, source, output))
    if format == "onnx":
        from medvlp.export.clip import onnx

        return onnx.summary(output, onnx.export_onnx(clip, source, output))
    from medvlp.export import open_clip

    difference = open_clip.export_clip(clip, source.weights_sha256, output, source.sections(), not source.name)
    return open_clip.summary(output, difference)


FORMATS = {
    "clip": ("open_clip", "transformers", "onnx"),
    "llava": ("hf", "transformers"),
    "classifier": ("hf", "transformers"),
}
"""`model.kind` → the formats that it is exported in; for assistants and classifiers both names stand for the same."""


def check_format(config: ExportConfig, name: ModelName) -> None:
    """The format suits what the checkpoint holds.

    Raises:
        ConfigError: it does not; the message names those that do.
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
    if kind not in FORMATS:
        raise ConfigError(f"{config.checkpoint} holds model.kind={kind!r}, which has no export format")
    if config.format not in FORMATS[kind]:
        expected = " or ".join(FORMATS[kind]) if kind == "clip" else FORMATS[kind][0]
        model = {"clip": "a CLIP model", "llava": "an assistant", "classifier": "a classifier"}[kind]
        raise ConfigError(
            f"{config.checkpoint} holds {model}, which is exported with format={expected}, not {config.format}. "
            f"Choices: open_clip, transformers, onnx (CLIP models), hf (assistants, classifiers)"
        )
    if kind != "llava" and config.adapter != "merged":
        raise ConfigError(f"adapter={config.adapter} is for assistants with LoRA adapters; leave it out")
