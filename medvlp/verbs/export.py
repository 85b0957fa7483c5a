"""`medvlp export`: a checkpoint → a folder that open_clip or transformers opens, refused unless they compute the same."""

from collections.abc import Sequence
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.config import ConfigError, ExportConfig, compose, verb_help


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
    from medvlp.environment import set_up_libraries

    set_up_libraries()
    check_format(config)
    output = Path(config.output)
    if config.format == "hf":
        from medvlp.builders import load_assistant
        from medvlp.export import assistant as assistants

        trained = load_assistant(config.checkpoint)
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
        from medvlp.builders import load_clip
        from medvlp.export import open_clip

        loaded_clip = load_clip(config.checkpoint)
        print(open_clip.summary(output, open_clip.export_clip(loaded_clip.clip, loaded_clip.weights_sha256, output)))
    return 0


def check_format(config: ExportConfig) -> None:
    """The format suits what the checkpoint holds.

    Raises:
        ConfigError: it does not; the message names the one that does.
    """
    from medvlp.builders import model_kind

    kind = model_kind(config.checkpoint)
    expected = {"clip": "open_clip", "llava": "hf"}.get(kind)
    if expected is None:
        raise ConfigError(f"{config.checkpoint} holds model.kind={kind!r}, which has no export format")
    if config.format != expected:
        model = "an assistant" if expected == "hf" else "a CLIP model"
        raise ConfigError(
            f"{config.checkpoint} holds {model}, which is exported with format={expected}, not {config.format}. Choices: "
            f"open_clip (CLIP models), hf (assistants)"
        )
    if expected == "open_clip" and config.adapter != "merged":
        raise ConfigError(f"adapter={config.adapter} is for assistants with LoRA adapters; leave it out")
