"""`medvlp export`: a checkpoint → a folder that open_clip or transformers opens, refused unless they compute the same."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlp import process
from medvlp.config import ConfigError, ExportConfig, LlavaConfig, TrainConfig, compose, from_dict
from medvlp.listing import verb_help

if TYPE_CHECKING:
    from medvlp.hub.card import Lineage
    from medvlp.hub.gate import Agreement

TOLERANCE = 1e-5
"""Largest difference allowed between a unit embedding of ours and of the reloaded folder, an element."""

PROBE = "a chest radiograph with a small pleural effusion on the left"


def main(argv: Sequence[str] | None = None) -> int:
    """Export one checkpoint; see `medvlp export --help`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--help" in words or "-h" in words:
        print(verb_help("export"))
        return 0
    try:
        config: ExportConfig = compose("export", words)
        output = Path(config.output)
        if output.exists():
            raise ConfigError(f"output={output} exists; name a new folder")
    except ConfigError as error:
        print(f"medvlp export: {error}", file=sys.stderr)
        return 1
    from medvlp.environment import settle
    from medvlp.hub.assistant import NotExportable
    from medvlp.hub.gate import Disagreement
    from medvlp.models.pretrained import WeightsError
    from medvlp.training.checkpoints import CheckpointError

    settle()
    expected = (CheckpointError, ConfigError, Disagreement, NotExportable, WeightsError, OSError, ValueError)
    try:
        check_format(config)
        if config.format == "hf":
            report_hf(output, export_hf(config.checkpoint, output, config.adapter))
        else:
            report_open_clip(output, export_open_clip(config.checkpoint, output))
    except expected as error:
        print(f"medvlp export: {error}", file=sys.stderr)
        return 1
    return 0


def check_format(config: ExportConfig) -> None:
    """The format suits what the checkpoint holds.

    Raises:
        ConfigError: it does not; the message names the one that does.
    """
    from medvlp.training.checkpoints import load_checkpoint

    model = load_checkpoint(config.checkpoint)["medvlp"]["config"]["model"]
    formats = {"clip": "open_clip", "llava": "hf"}
    wanted = formats.get(model["kind"])
    if wanted is None:
        raise ConfigError(f"{config.checkpoint} holds model.kind={model['kind']!r}, which has no export format")
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
    from medvlp.build import load_assistant
    from medvlp.hub.assistant import check_exportable, write_assistant
    from medvlp.hub.card import assistant_card
    from medvlp.hub.gate import answered, reload_and_compare

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
    from medvlp.hub.card import Lineage
    from medvlp.training.checkpoints import CheckpointError, load_checkpoint

    found, seen = Lineage([config], []), set()
    for run in found.runs:  # grows on the way
        tower = run.model.tower.source if isinstance(run.model, LlavaConfig) else ""
        for path in (run.init_from, tower if tower.endswith(".ckpt") else ""):
            if path and path not in seen:
                seen.add(path)
                try:
                    found.runs.append(from_dict(load_checkpoint(path)["medvlp"]["config"]))
                except (CheckpointError, ConfigError):
                    found.lost.append(path)
    return found


def report_hf(output: Path, agreement: "Agreement") -> None:
    """What was compared, for the terminal."""
    print(f"{output}: opens with transformers' AutoModelForImageTextToText and AutoProcessor(..., backend='pil')")
    print(f"compared in a new process with stock transformers: {', '.join(agreement.questions)}")
    print(f"largest difference of a logit: {agreement.difference:.1e}; greedy answers are identical")


def report_open_clip(output: Path, difference: float) -> None:
    """What was compared, for the terminal."""
    print(f"{output}: opens as open_clip.create_model_and_transforms('local-dir:{output}'); largest difference of an")
    print(f"embedding's element, measured in a new process with stock open_clip: {difference:.1e}")


def export_open_clip(checkpoint: str, output: Path) -> float:
    """Write open_clip_config.json, open_clip_model.safetensors and README.md; reload in a new process and compare.

    Returns: the largest difference of an embedding's element.
    Raises:
        ValueError: the reloaded model differs; the folder is left under a temporary name and removed.
    """
    import torch
    from safetensors.torch import save_file

    from medvlp.build import load_clip

    loaded = load_clip(checkpoint)
    clip = loaded.clip
    model: Any = clip.model
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as aside:
        folder = Path(aside) / output.name
        folder.mkdir()
        card: dict[str, Any] = {"model_cfg": clip.model_cfg, "preprocess_cfg": clip.preprocess}
        (folder / "open_clip_config.json").write_text(json.dumps(card, indent=2), encoding="utf-8")
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
        (folder / "README.md").write_text(readme(loaded.weights_sha256, card), encoding="utf-8")
        pixels = torch.randn(1, 3, clip.size, clip.size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            ours = torch.cat(
                [model.encode_image(pixels, normalize=True), model.encode_text(clip.tokenizer([PROBE]), normalize=True)]
            )
        torch.save({"pixels": pixels, "ours": ours}, Path(aside) / "probe.pt")
        run = subprocess.run(
            [sys.executable, "-c", RELOAD, str(folder), str(Path(aside) / "probe.pt"), PROBE],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise ValueError(f"open_clip could not open the exported folder: {run.stderr.strip().splitlines()[-1]}")
        difference = float(run.stdout.strip().splitlines()[-1])
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the exported folder gives other embeddings in open_clip (by {difference:.1e}); nothing was kept"
            )
        folder.rename(output)
    return difference


RELOAD = """
import sys, torch, open_clip
folder, probe, text = sys.argv[1:]
model, _, _ = open_clip.create_model_and_transforms("local-dir:" + folder)
tokenizer = open_clip.get_tokenizer("local-dir:" + folder)
probe = torch.load(probe, weights_only=True)
with torch.no_grad():
    image = model.eval().encode_image(probe["pixels"], normalize=True)
    theirs = torch.cat([image, model.encode_text(tokenizer([text]), normalize=True)])
print(float((theirs - probe["ours"]).abs().max()))
"""


def readme(weights: str, card: dict[str, Any]) -> str:
    """The model card of an exported folder."""
    text = card["model_cfg"].get("text_cfg", {})
    note = (
        f"\nopen_clip resolves the text tower by the name `{text['hf_model_name']}`: on another machine, replace it in "
        f"open_clip_config.json by a hub name or that machine's folder.\n"
        if text.get("hf_model_name")
        else ""
    )
    return (
        f"# A CLIP model trained with medvlp\n\nResearch use only; not for clinical use.\n\n"
        f"Weights sha256 (names, types, shapes, bytes): `{weights}`\n{note}\n"
        f"```python\nimport open_clip\n"
        f"model, _, transform = open_clip.create_model_and_transforms('local-dir:<this folder>')\n```\n"
    )


if __name__ == "__main__":
    sys.exit(process.command("export", main))
