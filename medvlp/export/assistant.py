"""A trained assistant as a folder for stock transformers, kept only if these compute the same with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.boxes.forms import STYLE_FILE, BoxStyle
from medvlp.config import InstructConfig, TrainConfig
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.export.equality import ExportCheck, check_folder, probe_results
from medvlp.export.folder import whole_folder
from medvlp.export.model_card import assistant_card, lineage
from medvlp.export.transformers import check_exportable, write_assistant
from medvlp.models.llava.model import Assistant


def export_assistant(
    assistant: Assistant,
    encoder: ChatEncoder,
    config: TrainConfig,
    weights_sha256: str,
    output: Path,
    separate: bool,
    selected: Mapping[str, Any],
) -> ExportCheck:
    """Write the folder; reload it in a new process and compare tokens, logits and greedy answers.

    Args:
        config: what the assistant was trained with; separate: keep LoRA adapters apart, instead of merging them.
        selected: source → what conditions selected of it.
    Raises:
        ExportMismatch: the reloaded model differs; nothing is kept.
        NotExportable: stock transformers has no such model.
    """
    check_exportable(assistant, separate)
    with whole_folder(output) as (folder, scratch):
        trained = probe_results(assistant, encoder)
        write_assistant(assistant, encoder, folder, separate)
        write_box_style(config, folder)
        check = check_folder(folder, scratch, trained)
        card = assistant_card(assistant, lineage(config, selected), weights_sha256, check, separate)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return check


def write_box_style(config: TrainConfig, folder: Path) -> None:
    """The file that says how the assistant was taught to write boxes; none of one that was not."""
    if isinstance(config.objective, InstructConfig):
        style = BoxStyle(config.objective.box_form, has_words=config.objective.box_words)
        (folder / STYLE_FILE).write_text(json.dumps(style.metadata(), indent=2) + "\n", "utf-8")


def summary(output: Path, check: ExportCheck) -> str:
    """How the folder is opened, and what was compared, for the terminal."""
    return (
        f"{output}: opens with transformers' AutoModelForImageTextToText and AutoProcessor(..., backend='pil')\n"
        f"compared in a new process with stock transformers: {', '.join(check.questions)}\n"
        f"largest difference of a logit: {check.max_difference:.1e}; greedy answers are identical"
    )
