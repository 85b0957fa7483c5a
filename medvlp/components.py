"""Components of a training run: model, loss, data and tasks, and what is said of them before and after."""

import sys
import traceback
from pathlib import Path

import medvlp.builders  # noqa: F401  its libraries set log levels as they are imported, which `set_up_libraries` overrules
from medvlp.builders import build_data, build_evaluation, build_objective, init_from
from medvlp.config import load_task
from medvlp.distributed import launched_local_world_size, launched_rank
from medvlp.environment import set_up_libraries
from medvlp.errors import UserError
from medvlp.report import write_run_report
from medvlp.report.dataset.leakage import leakage_notes
from medvlp.runs import Run, check_unchanged
from medvlp.runs.resuming import TEMPLATES, check_same_run, template_hashes
from medvlp.training.fit import Components, RunHooks
from medvlp.training.trainer import check_devices


def hooks_of(run: Run) -> RunHooks:
    """What `fit` calls for a run."""
    set_up_libraries()
    splits = {name: Path(source.path) for name, source in run.config.data.sources.items() if not source.is_remote}
    return RunHooks(lambda: build_components(run), lambda: leakage_notes(splits), write_report)


def build_components(run: Run) -> Components:
    """The parts of a run, the same on every rank; its data are opened.

    Raises:
        UserError: the run cannot begin.
    """
    config, checkpoint = run.config, run.checkpoint
    if launched_rank() == 0:
        check_unchanged(config, run.folder, checkpoint)
    check_devices(config.trainer.accelerator, launched_local_world_size())
    objective = build_objective(config, resuming=checkpoint is not None)
    pipeline = objective.pipeline
    if checkpoint is not None and pipeline.caches_features:
        # The cache is compared with the tower of the run that goes on, whose weights Lightning would load later.
        init_from(objective.module, objective.module.parts, str(checkpoint), (), objective.metadata)
    data = build_data(config, pipeline)
    data.prepare_data()
    data.setup()
    if held_out := data.held_out:
        objective.module.metadata["held_out"] = {name: item_filter.to_json() for name, item_filter in held_out.items()}
    if selected := data.selected:
        objective.module.metadata["selected"] = {name: selection.to_json() for name, selection in selected.items()}
    if templates := template_hashes(config):
        objective.module.metadata[TEMPLATES] = templates
    if checkpoint is not None:
        check_same_run(config, checkpoint, data.total_steps)
    task_names = tuple(load_task(name).name for name in config.tasks)
    return Components(objective, data, build_evaluation(config, objective), task_names)


def write_report(folder: Path) -> None:
    """The run's page; a run is done with or without it."""
    try:
        print(f"report: {write_run_report(folder)}", flush=True)
    except Exception as error:
        if not isinstance(error, OSError | UserError):
            traceback.print_exc()  # a fault of ours, and no reason to call the run failed
        print(f"no report: {error}; `medvlp report {folder}` tries again", file=sys.stderr, flush=True)
