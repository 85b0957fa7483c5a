"""Results as lm-evaluation-harness (0.4) writes them: of each model results_<date>.json and samples_<task>_<date>.jsonl.

Its own readers and tables take them. What it has no field for, a task's protocol, stands under `configs`.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from medvlp.config import EvalConfig
from medvlp.config.evaluation.metric_names import direction
from medvlp.jsonl import Row, encode_json, encode_row, read_rows
from medvlp.shards.atomic import write_whole
from medvlp.sweep.cells import results_rows
from medvlp.sweep.plan import Cell

FOLDER = "lm_eval"
FILTER = "none"
LONGEST = 200
"""Bytes of a folder's name, of which file systems take 255."""
NORMAL_95 = 1.959964
"""Half the width of a 95% interval of a normal distribution, in standard deviations."""


def write_lm_eval(folder: Path, cells: Sequence[tuple[Cell, Row]], config: EvalConfig) -> None:
    """Write <folder>/lm_eval/<model>/ for every model of the cells; what an earlier call wrote there is replaced.

    A standard error is half the width of our interval over 1.96: "N/A" where a metric has no interval.
    """
    by_model: dict[str, list[tuple[Cell, Row]]] = {}
    for cell, content in cells:
        by_model.setdefault(cell.model.name, []).append((cell, content))
    date = datetime.now().isoformat().replace(":", "-")
    for name, cells_of_model in by_model.items():
        target = folder_of(name, folder / FOLDER)
        target.mkdir(parents=True, exist_ok=True)
        for path in [*target.glob("results_*.json"), *target.glob("samples_*.jsonl")]:
            path.unlink()
        samples = {
            title: sample_rows(content["task"], list(read_rows(folder / content["protocol"]["records"])))
            for title, _, content in titled(cells_of_model)
        }
        for title, rows in samples.items():
            write_whole(target / f"samples_{title}_{date}.jsonl", b"".join(map(encode_row, rows)))
        results = aggregated(name, cells_of_model, config) | {
            "task_hashes": {title: _hash("".join(map(_hashes, rows))) for title, rows in samples.items()}
        }
        write_whole(target / f"results_{date}.json", encode_json(results, indent=2))


def folder_of(name: str, folder: Path) -> Path:
    """A model's folder, by the harness's rule; with a hash where that is another model's, or is too long for a folder."""
    target = folder / sanitized(name)
    is_free = len(os.fsencode(target.name)) <= LONGEST and all(
        map(partial(_is_of, name), target.glob("results_*.json"))
    )
    return target if is_free else folder / f"{sanitized(name)[: LONGEST // 4]}-{_hash(name)[:8]}"


def _is_of(name: str, results: Path) -> bool:
    try:
        return bool(json.loads(results.read_bytes())["model_name"] == name)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def sanitized(name: str) -> str:
    """A model's name as a folder's, by the harness's rule."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def titled(cells: Sequence[tuple[Cell, Row]]) -> list[tuple[str, Cell, Row]]:
    """Each cell with its task's name, and the split where a task has several."""
    names = [cell.task.name for cell, _ in cells]
    return [
        (cell.task.name if names.count(cell.task.name) == 1 else f"{cell.task.name}-{cell.task.split}", cell, content)
        for cell, content in cells
    ]


def aggregated(name: str, cells: Sequence[tuple[Cell, Row]], config: EvalConfig) -> dict[str, Any]:
    """The content of results_<date>.json, of one model."""
    tables: dict[str, dict[str, Any]] = {
        key: {}
        for key in ("results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    }
    for title, cell, content in titled(cells):
        rows, protocol = results_rows(cell, content), content["protocol"]
        tables["results"][title] = {"name": title, "alias": title, "sample_len": protocol["n"]} | metrics_of(rows)
        tables["group_subtasks"][title] = []
        options = content["parts"]["task"]
        tables["configs"][title] = {
            "task": title,
            "dataset_path": options["data"],
            "test_split": content["split"],
            "num_fewshot": 0,
            "metadata": {"version": content["parts"]["version"]},
            "medvlp": {"options": options, "protocol": rows[0]["protocol"] if rows else protocol},
        }
        tables["versions"][title] = content["parts"]["version"]
        tables["n-shot"][title] = 0
        tables["higher_is_better"][title] = {_key(row["metric"]): direction(row["metric"]) > 0 for row in rows}
        total = protocol["n"] + sum(protocol["excluded"].values())
        tables["n-samples"][title] = {"original": total, "effective": protocol["n"]}
    first = cells[0][0].model
    return tables | {
        "config": {
            "model": first.kind.title if first.kind else "",
            "model_args": {"pretrained": name},
            "model_sha": first.identity,
            "batch_size": str(config.batch_size),
            "device": config.accelerator,
            "limit": None,
            "bootstrap_iters": config.resamples,
            "random_seed": config.seed,
        },
        "date": time.time(),
        "model_source": "medvlp",
        "model_name": name,
        "model_name_sanitized": sanitized(name),
        "medvlp_version": version("medvlp"),
    }


def metrics_of(rows: Sequence[Row]) -> dict[str, Any]:
    """ "<metric>,none" → value, and "<metric>_stderr,none" → standard error, of the metrics that are defined."""
    values: dict[str, Any] = {}
    for row in rows:
        if row["value"] is None:
            continue
        name, low, high = _key(row["metric"]), row["ci_low"], row["ci_high"]
        values[f"{name},{FILTER}"] = row["value"]
        values[f"{name}_stderr,{FILTER}"] = (
            (high - low) / (2 * NORMAL_95) if low is not None and high is not None else "N/A"
        )
    return values


def sample_rows(task: str, records: Sequence[Row]) -> list[Row]:
    """The rows of samples_<task>_<date>.jsonl: one an item, with what it scored by each metric that an item has."""
    rows = []
    for index, record in enumerate(records):
        prompt, scores = str(record.get("question", record["id"])), item_scores(record)
        target = str(record.get("target", ""))
        rows.append(
            {
                "doc_id": index,
                "doc": record,
                "target": target,
                "arguments": {"gen_args_0": {"arg_0": prompt}},
                "resps": [[record.get("prediction")]],
                "filtered_resps": [record.get("prediction")],
                "filter": FILTER,
                "metrics": list(scores),
                "doc_hash": _hash(encode_json(record, sort=True).decode()),
                "prompt_hash": _hash(prompt),
                "target_hash": _hash(target),
                **scores,
            }
        )
    return rows


def item_scores(record: Mapping[str, Any]) -> dict[str, float]:
    """What one item scored: its own metrics for questions, accuracy for classes, the rank of the match for retrieval."""
    if "targets" in record:
        return {}  # of several labels the metrics are of a class
    if record.get("kind") in ("zero_shot", "classification", "probe"):
        return {"acc1": float(record["prediction"] == record["target"])}
    if "rank" in record:
        return {"rank": float(record["rank"])}
    scores = record.get("scores")
    columns = scores.items() if isinstance(scores, dict) else [("score", record.get("score"))]
    return {_key(name): float(value) for name, value in columns if isinstance(value, int | float)}


def _key(metric: str) -> str:
    """A metric's name without the comma that divides it from a filter."""
    return metric.replace(",", ";")


def _hashes(row: Row) -> str:
    return str(row["doc_hash"] + row["prompt_hash"] + row["target_hash"])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
