"""`medvlp export`: a checkpoint → a folder that open_clip or transformers opens, refused unless they compute the same."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.cli import run_verb
from medvlp.config import ConfigError, ExportConfig, LlavaConfig, TrainConfig, compose, from_dict, verb_help

if TYPE_CHECKING:
    from medvlp.export.equality import Agreement
    from medvlp.export.model_card import Lineage


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
    from medvlp.environment import settle

    settle()
    output = Path(config.output)
    check_format(config)
    if config.format == "hf":
        report_hf(output, export_hf(config.checkpoint, output, config.adapter))
    else:
        report_open_clip(output, export_open_clip(config.checkpoint, output))
    return 0


def check_format(config: ExportConfig) -> None:
    """The format suits what the checkpoint holds.

    Raises:
        ConfigError: it does not; the message names the one that does.
    """
    from medvlp.builders import model_kind

    kind = model_kind(config.checkpoint)
    wanted = {"clip": "open_clip", "llava": "hf"}.get(kind)
    if wanted is None:
        raise ConfigError(f"{config.checkpoint} holds model.kind={kind!r}, which has no export format")
    if config.format != wanted:
        what = "an assistant" if wanted == "hf" else "a CLIP model"
        raise ConfigError(
            f"{config.checkpoint} holds {what}, which is exported with format={wanted}, not {config.format}. Choices: "
            f"open_clip (CLIP models), hf (assistants)"
        )
    if wanted == "open_clip" and config.adapter != "merged":
        raise ConfigError(f"adapter={config.adapter} is for assistants with LoRA adapters; leave it out")


def export_hf(checkpoint: str, output: Path, adapter: str) -> "Agreement":
    """Write a folder for transformers; reload it in a new process and compare tokens, logits and greedy answers.

    Args:
        adapter: "merged" or "separate", for LoRA.
    Raises:
        Disagreement: the reloaded model differs; nothing is kept.
        NotExportable: stock transformers has no such model.
    """
    from medvlp.builders import load_assistant
    from medvlp.export.equality import answered, reload_and_compare
    from medvlp.export.model_card import assistant_card
    from medvlp.export.transformers import check_exportable, write_assistant

    loaded = load_assistant(checkpoint)
    assistant, encoder, separate = loaded.assistant, loaded.encoder, adapter == "separate"
    check_exportable(assistant, separate)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as aside:
        folder, probe = Path(aside) / output.name, Path(aside) / "probe"
        folder.mkdir()
        probe.mkdir()
        ours = answered(assistant, encoder)
        write_assistant(assistant, encoder, folder, separate)
        agreement = reload_and_compare(folder, probe, ours)
        card = assistant_card(assistant, lineage(loaded.config), loaded.weights_sha256, agreement, separate)
        (folder / "README.md").write_text(card, encoding="utf-8")
        folder.rename(output)
    return agreement


def lineage(config: TrainConfig) -> "Lineage":
    """The run, and the runs whose weights it started from, as far as their checkpoints are still there."""
    from medvlp.export.model_card import Lineage
    from medvlp.training.checkpoints import CheckpointError, load_checkpoint

    found, seen = Lineage([config], []), set()
    for run in found.runs:  # grows on the way
        tower = run.model.vision.source if isinstance(run.model, LlavaConfig) else ""
        for path in (run.init_from, tower if tower.endswith(".ckpt") else ""):
            if path and path not in seen:
                seen.add(path)
                try:
                    found.runs.append(from_dict(load_checkpoint(path)["medvlp"]["config"]))
                except (CheckpointError, ConfigError, LookupError, TypeError):
                    found.lost.append(path)
    return found


def report_hf(output: Path, agreement: "Agreement") -> None:
    """What was compared, for the terminal."""
    print(f"{output}: opens with transformers' AutoModelForImageTextToText and AutoProcessor(..., backend='pil')")
    print(f"compared in a new process with stock transformers: {', '.join(agreement.questions)}")
    print(f"largest difference of a logit: {agreement.difference:.1e}; greedy answers are identical")


def export_open_clip(checkpoint: str, output: Path) -> float:
    """Write a folder for open_clip; reload it in a new process, from another place and offline, and compare embeddings.

    Returns: the largest difference of an embedding's element.
    Raises:
        Disagreement: the reloaded model differs; nothing is kept.
    """
    from medvlp.builders import load_clip
    from medvlp.export.open_clip import embeddings_elsewhere, largest_difference, probe, write_folder

    loaded = load_clip(checkpoint)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as aside:
        folder = Path(aside) / output.name
        folder.mkdir()
        write_folder(loaded.clip, folder, loaded.weights_sha256)
        asked = probe(loaded.clip)
        difference = largest_difference(asked["ours"], embeddings_elsewhere(folder, Path(aside), asked))
        folder.rename(output)
    return difference


def report_open_clip(output: Path, difference: float) -> None:
    """What was compared, and how the folder is opened, for the terminal."""
    from medvlp.export.open_clip import how_to_open

    print(f"{output}: {how_to_open(output)}")
    print(
        f"largest difference of an embedding's element, in a new process with stock open_clip, moved and offline: "
        f"{difference:.1e}"
    )
