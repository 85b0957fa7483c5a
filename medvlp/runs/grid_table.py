"""What a grid found out, in one table: a line a cell, with the samples that it trained on, those that it saw, and its scores."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medvlp.config import TrainConfig, compose, load_task
from medvlp.config.evaluation.metric_names import direction, main_metrics
from medvlp.errors import UserError
from medvlp.jsonl import read_rows, write_rows
from medvlp.report.markdown import code, table
from medvlp.runs.resuming import changes_of_weights
from medvlp.shards.atomic import refusing, write_text
from medvlp.shards.manifest import read_manifest
from medvlp.shards.storage import RemoteSettings, split_folder
from medvlp.training.run_folder import SELECTED


@dataclass
class CellResult:
    """A cell of a grid.

    values: key → its value, of the keys that differ between cells. samples: that it trains on, of all sources; None where nobody
    can say. samples_seen: those of all steps. scores: `<task> <metric>` → value after the last step.
    """

    run: str
    values: dict[str, str]
    state: str
    samples: int | None
    samples_seen: int
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Of the scores of which more is better."""
        scores = [value for name, value in self.scores.items() if direction(name.partition(" ")[2]) > 0]
        return sum(scores) / len(scores) if scores else None


def write_grid_table(cells: Sequence[Sequence[str]]) -> list[str]:
    """Write <run_root>/<name>.md and .jsonl of a grid's cells; returns lines to print."""
    settings = [dict(_split(argument) for argument in cell) for cell in cells]
    varied = [key for key in settings[0] if key != "run_name" and len({str(row.get(key)) for row in settings}) > 1]
    results, root = [], Path()
    for cell, setting in zip(cells, settings, strict=True):
        config: TrainConfig = compose("train", list(cell))
        root = Path(config.run_root)
        results.append(result_of(config, {key: setting.get(key, "") for key in varied}))
    name = results[0].run.partition(f"__{varied[0].split('.')[-1]}")[0] if varied else results[0].run
    head, rows = columns_of(results)
    lines = table(head, rows, range(len(varied), len(head)))
    lines += ["", *notes_of(results)]
    with refusing(root):
        root.mkdir(parents=True, exist_ok=True)  # no cell may have come to a folder
    write_text(root / f"{name}.md", "\n".join(lines) + "\n")
    write_rows(root / f"{name}.jsonl", [asdict(result) | {"mean": result.mean} for result in results])
    return [*lines, f"table: {root / f'{name}.md'}"]


def _split(argument: str) -> tuple[str, str]:
    key, _, value = argument.partition("=")
    return key, value


def result_of(config: TrainConfig, values: dict[str, str]) -> CellResult:
    """What a cell's folder says; of a run of another configuration, that it is one."""
    folder = Path(config.run_root) / config.run_name
    # Stages have configurations of their own.
    if (folder / "config.yaml").exists() and not config.stages and (changes := changes_of_weights(folder, config)):
        return CellResult(
            config.run_name, values, f"an earlier run with others of these keys: {', '.join(changes)}", None, 0
        )
    status = _json(folder / "status.json")
    step, state = int(status.get("step") or 0), str(status.get("state") or "not begun")
    scores: dict[str, float] = {}
    rows = [
        row for row in read_rows(folder / "metrics.jsonl") if row.get("split") == "valid" and row.get("step") == step
    ]
    for row in rows:
        names = [name for name, value in row.items() if isinstance(value, float) and not isinstance(value, bool)]
        for name in main_metrics(load_task(str(row["task"])).kind, names):
            scores[f"{row['task']} {name}"] = float(row[name])
    reason = f": {status['reason']}" if status.get("reason") else ""
    return CellResult(
        config.run_name,
        values,
        state + reason,
        samples_of(config, folder),
        step * config.data.global_batch_size,
        scores,
    )


def samples_of(config: TrainConfig, folder: Path) -> int | None:
    """Samples that a run trains on, of all its sources."""
    selected, total = _json(folder / SELECTED), 0
    remote = RemoteSettings.from_options(**vars(config.data.remote))
    for name, source in config.data.sources.items():
        try:
            if source.only or source.exclude:
                return None  # what they leave is known while a run reads its data
            if name in selected:
                total += int(selected[name]["selected"])
            elif source.where:
                return None  # nobody has looked yet
            else:
                total += read_manifest(split_folder(source.path, remote))[0].samples
        except (UserError, OSError, KeyError, TypeError, ValueError):
            return None
    return total


def columns_of(results: Sequence[CellResult]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table; the best of a column in bold."""
    names = list(dict.fromkeys(name for result in results for name in result.scores))
    has_mean = len(names) > 1
    head = [*(code(key.split(".")[-1]) for key in results[0].values), "samples", "samples seen", *map(code, names)]
    rows = []
    columns = [[result.scores.get(name) for result in results] for name in names]
    columns += [[result.mean for result in results]] if has_mean else []
    signs = [direction(name.partition(" ")[2]) for name in names] + [1] * has_mean
    for number, result in enumerate(results):
        samples = "?" if result.samples is None else f"{result.samples:,}"
        scores = [_score(column, number, sign) for column, sign in zip(columns, signs, strict=True)]
        rows.append([*map(_value, result.values.values()), samples, f"{result.samples_seen:,}", *scores])
    return head + ["mean"] * has_mean, rows


def _score(column: Sequence[float | None], number: int, sign: int) -> str:
    value = column[number]
    if value is None:
        return ""
    best = max(sign * score for score in column if score is not None)
    return f"**{value:.3f}**" if sign * value == best else f"{value:.3f}"


def _value(text: str) -> str:
    """A key's value: of a list its members, without their quotes."""
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].replace("'", "").replace('"', "") or "nothing"
    return code(text)


def notes_of(results: Sequence[CellResult]) -> list[str]:
    """What a reader of the table has to know."""
    notes = [f"{code(result.run)}: {code(result.state)}" for result in results if result.state != "done"]
    sample_counts = {result.samples_seen for result in results if result.state == "done"}
    if len(sample_counts) > 1:
        notes.append(
            f"Not at fixed compute: the cells saw between {min(sample_counts):,} and {max(sample_counts):,} samples; give "
            f"trainer.max_steps"
        )
    if any(result.scores for result in results):
        notes.append(
            "Scores are of the tasks' valid splits after the last step, without intervals; `medvlp eval` with the cells' "
            "checkpoints and `medvlp compare` say which of the differences are real."
        )
    return notes


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
