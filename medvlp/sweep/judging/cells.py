"""Judging of cells: from the records of the same cell without a judge, so that the judged model need not be there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medvlp.config import EvalConfig
from medvlp.config.evaluation.answering.judge import load_rubric
from medvlp.config.model_names import parse_model_name
from medvlp.distributed import from_first
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.items import Item, items_of
from medvlp.eval.judge.scoring import Judge, Judging, judged
from medvlp.eval.task import TaskResult
from medvlp.jsonl import Row, read_rows
from medvlp.sweep.cells import CellFolder
from medvlp.sweep.judging.models import flag_of
from medvlp.sweep.plan import JUDGE, Cell


def judged_result(
    cell: Cell, content: Row, folder: CellFolder, config: EvalConfig, judges: tuple[Judge, ...]
) -> TaskResult:
    """The result of a cell, its answers judged.

    content: of the cell without a judge, on rank 0.
    """
    task: Any = cell.task.task
    answered = from_first(lambda: kept_result(content, folder))
    identities = [part["identity"] for part in cell.parts[JUDGE]["models"]]
    with_flags = tuple(
        replace(judge, flag=flag_of(parse_model_name(judge.name), identity, cell.model.model_name, cell.model.identity))
        for judge, identity in zip(judges, identities, strict=True)
    )
    options = config.judge
    judging = Judging(
        load_rubric(options.rubric),
        with_flags,
        tuple(options.context),
        options.max_new_tokens,
        config.batch_size,
        options.scoring,
        tuple(options.controls),
        task.dataset if options.images else None,
    )
    texts_of: Mapping[str, Mapping[str, str]] = (
        {item.key: item.texts for item in items_of(task.dataset) if isinstance(item, Item)} if options.context else {}
    )
    return judged(answered, judging, texts_of, Bootstrap(config.resamples, config.seed))


def kept_result(content: Row, folder: CellFolder) -> TaskResult:
    """The result that a finished cell holds, its metrics not computed again."""
    protocol = {name: value for name, value in content["protocol"].items() if name != "records"}
    kind = str(protocol["kind"])
    records = list(read_rows(folder.folder / content["protocol"]["records"]))
    return TaskResult(str(content["task"]), kind, [], records, protocol)
