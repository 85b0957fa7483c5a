"""README.md of an exported assistant: what it is, what it came from, how it is used."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.boxes.forms import FORMS
from medvlp.combinations import ItemFilter
from medvlp.config import (
    ClassifierConfig,
    ConfigError,
    InstructConfig,
    LlavaConfig,
    SourceConfig,
    TrainConfig,
    from_dict,
)
from medvlp.config.model_names import source_name
from medvlp.data.views.filtered import FilteredDataset
from medvlp.export.equality import NEW_TOKENS, RELATIVE_TOLERANCE, TOLERANCE, ExportCheck
from medvlp.export.transformers import ADAPTER
from medvlp.jsonl import read_rows
from medvlp.models.llava.model import Assistant
from medvlp.selection import ConditionError
from medvlp.selection.selected import dropped_words
from medvlp.shards import ShardDataset, ShardError
from medvlp.shards.storage import split_folder
from medvlp.training.checkpoints import CheckpointError, load_checkpoint

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
METRICS = "metrics.jsonl"
"""Of a run: a row for each task and step that was evaluated."""
FOREIGN = ("open_clip:", "hf:")

USE = """\
```python
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = "."  # this folder
model = AutoModelForImageTextToText.from_pretrained(folder)
{adapter}processor = AutoProcessor.from_pretrained(folder, backend="pil")
image = Image.new("RGB", (512, 512))  # or Image.open("chest.png")
question = [{{"type": "image", "image": image}}, {{"type": "text", "text": "What does the image show?"}}]
inputs = processor.apply_chat_template(
    [{{"role": "user", "content": question}}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
with torch.no_grad():
    made = model.generate(**inputs, max_new_tokens=128)
print(processor.decode(made[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```
"""


@dataclass
class Lineage:
    """Where weights come from.

    runs: configurations, the run's own first, then those of the runs whose weights went into it, one after the other.
    selected: of each run, source → what conditions selected of it, as its checkpoint states it.
    lost: checkpoints of such runs that are no longer there.
    """

    runs: list[TrainConfig]
    selected: list[Mapping[str, Any]]
    lost: list[str]


def lineage(config: TrainConfig, selected: Mapping[str, Any]) -> Lineage:
    """A run, and the runs whose weights it started from, as far as their checkpoints are still there.

    selected: of the run's own checkpoint, as in `Lineage`.
    """
    result, visited = Lineage([config], [selected], []), set()
    for run in result.runs:  # grows on the way
        vision = run.model.vision.source if isinstance(run.model, LlavaConfig | ClassifierConfig) else ""
        for key, source in (("init_from", run.init_from), ("model.vision.source", vision)):
            try:
                name = source_name(source, key)
            except ConfigError:  # a run folder that has changed since
                name = None
            is_ours = name is not None and name.scheme == "checkpoint"
            if source and source not in visited and (is_ours or key == "init_from"):
                visited.add(source)
                try:
                    path = name.target if name else source
                    content = load_checkpoint(path)["medvlp"]
                    result.runs.append(from_dict(content["config"]))
                    result.selected.append(content.get("selected", {}))
                except (CheckpointError, ConfigError, LookupError, TypeError):
                    result.lost.append(source)
    return result


def assistant_card(
    assistant: Assistant, lineage: Lineage, weights_sha256: str, check: ExportCheck, separate: bool
) -> str:
    """The text of README.md.

    Args:
        separate: the adapters are in a folder of their own.
    """
    model = lineage.runs[0].model
    assert isinstance(model, LlavaConfig)
    parts_of_others = [source.removeprefix("hf:") for source in (model.language.source, model.vision.source)]
    base = [name for name in parts_of_others if is_hub_name(name)]
    header = [
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "license: other",
        "license_name: see-the-card",
        *(["base_model:", *(f"- {name}" for name in base)] if base else []),
        f"tags: [medical, {'fastvlm' if assistant.kind == 'fast_vlm' else 'llava'}, visual-question-answering, medvlp]",
    ]
    parts = {
        "Language model": origin(model.language.source),
        "Vision tower": origin(model.vision.source),
        "Tokens an image": str(assistant.image_tokens),
        "Tokenizer sha256": assistant.names["language"]["sha256"],
        "Weights sha256": f"{weights_sha256} (of the checkpoint: names, types, shapes, bytes)",
    }
    objective = lineage.runs[0].objective
    if isinstance(objective, InstructConfig):
        parts["Boxes in text"] = f"{objective.box_form}: {FORMS[objective.box_form].words}"
    if model.lora.rank:
        adapters = f"kept apart in {ADAPTER}/" if separate else "merged into the language model"
        parts["LoRA"] = f"rank {model.lora.rank}, alpha {model.lora.alpha}, {adapters}"
    adapter = (
        f'from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(model, f"{{folder}}/{ADAPTER}")\n'
        if separate
        else ""
    )
    rows = "\n".join(f"| {name} | {cell(value)} |" for name, value in parts.items())
    return "\n".join(
        [
            "---",
            *header,
            "---",
            "",
            "# A medical vision-language assistant",
            "",
            "Research use only; not for clinical use. It answers questions about medical images, and it makes mistakes. "
            "Trained with medvlp.",
            "",
            "| | |",
            "|---|---|",
            rows,
            "",
            "## Data and licences",
            "",
            "The weights come from the parts above and from this data; the terms of each apply.",
            "",
            *data_table(lineage),
            "",
            "## Use",
            "",
            USE.format(adapter=adapter),
            "The chat template writes all control tokens; the tokenizer adds none. Contents may be text with `<image>` in "
            "it, or lists of parts.",
            "",
            "## Checked",
            "",
            *checked(check),
            "",
        ]
    )


def data_table(lineage: Lineage) -> list[str]:
    """Rows of Markdown: every prepared set of every run, and its licences."""
    rows = [
        (run.run_name, f"{name}{held_out(source, name, selected.get(name))}", data_licences(source, name))
        for run, selected in zip(lineage.runs, lineage.selected, strict=True)
        for name, source in run.data.sources.items()
    ]
    lost = [(origin(source), "not known", f"not known: {reason_of_loss(source)}") for source in lineage.lost]
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows + lost]
    return ["| Run | Data | Samples by licence |", "|---|---|---|", *lines]


def held_out(source: SourceConfig, name: str, selected: Any) -> str:
    """`, where (width >= 224): 300 of 400 samples (dropped: 100 by width >= 224), without modality=CT, organ=liver`: what a
    source was selected by; "" where all was trained on.

    selected: as its checkpoint states it; None where it does not.
    """
    item_filter, conditions = source.item_filter(name), " and ".join(f"({text})" for text in source.where)
    words = f", where {conditions}" if conditions else ""
    if conditions and isinstance(selected, dict):
        try:
            counts = dropped_words(selected["dropped"], selected["without_value"])
            words += f": {int(selected['selected']):,} of {int(selected['samples']):,} samples ({counts})"
        except (AttributeError, LookupError, TypeError, ValueError):
            words += " (its checkpoint does not say how many samples)"
    return words + (f", without {item_filter.name}" if item_filter else "")


def reason_of_loss(source: str) -> str:
    """Why the data of a model that a run started from are not known."""
    return "others trained it" if source.startswith(FOREIGN) else "the checkpoint is gone"


def checked(check: ExportCheck) -> list[str]:
    """What the export compared, in sentences."""
    default = "identical as well" if check.same_text_default else "no longer all identical"
    return [
        f"Reloaded in a new process with stock transformers ({', '.join(check.questions)}): the same tokens, logits "
        f"within {check.max_difference:.1e} at every place (allowed: {TOLERANCE:.0e}, or "
        f"{RELATIVE_TOLERANCE:.0e} of the largest), the same {NEW_TOKENS} greedy tokens.",
        "",
        f'Images are resized by PIL, as in training: `backend="pil"`. Without it, transformers resizes with torchvision; '
        f"on a generated image logits then differed by up to {check.max_difference_default:.1e}, and the answers were "
        f"{default}.",
    ]


def data_licences(source: SourceConfig, name: str) -> str:
    """The licences of what was selected of a prepared split, as far as it is still there: `CC0-1.0 (314)`."""
    try:
        folder = split_folder(source.path)
        conditions = source.conditions
        dataset = (
            FilteredDataset(folder, ItemFilter(), name, conditions=conditions) if conditions else ShardDataset(folder)
        )
        licences = dataset.column("licence")
    except (ShardError, ConditionError):
        return "not known at export: the prepared data was not there"
    counts = Counter(licence or "no licence stated" for licence in licences)
    return ", ".join(f"{name} ({count})" for name, count in sorted(counts.items(), key=lambda item: -item[1]))


def results_table(checkpoint: Path, step: int) -> list[str]:
    """Rows of Markdown: what the tasks of a run gave at a checkpoint's step, as its metrics.jsonl has it; none where it has
    nothing."""
    rows = [
        row
        for row in read_rows(checkpoint.resolve().parent.parent / METRICS)
        if (row.get("split"), row.get("step")) == ("valid", step) and row.get("task")
    ]
    latest = {str(row["task"]): row for row in rows}  # a step that was evaluated again stands there twice
    lines = []
    for task, row in latest.items():
        for metric, value in row.items():
            if metric not in ("step", "split", "task") and isinstance(value, int | float):
                lines.append(f"| {cell(task)} | {cell(metric)} | {value:.4g} |")
    return ["| Task | Metric | Value |", "|---|---|---|", *lines] if lines else []


def is_hub_name(source: str) -> bool:
    """`owner/name`, and nothing of that name here."""
    return bool(HUB_NAME.fullmatch(source)) and not Path(source).exists()


def origin(source: str) -> str:
    """Where a part came from, without the folders of this machine."""
    if is_hub_name(source) or source.startswith(("package:", "timm:")):
        return source
    if source.startswith(FOREIGN):
        scheme, _, target = source.partition(":")
        return f"{scheme}:{origin(target)}" if Path(target).exists() else source
    path = Path(source)
    if path.suffix == ".ckpt":
        return f"a model trained with medvlp ({'/'.join(path.parts[-3:])})"
    return f"{path.name} (local)"


def cell(text: str) -> str:
    """Text in a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
