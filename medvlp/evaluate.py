"""`medvlp eval`: checkpoints × tasks → results.jsonl, samples/*.jsonl and report.html."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from medvlp.claims import claim, refuse_other_kinds
from medvlp.cli import run_verb
from medvlp.config import EvalConfig, as_dict, compose, load_task, value_of, verb_help
from medvlp.config.model_names import expand_model_names


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp eval`; returns the exit code."""
    return run_verb("eval", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return verb_help("eval")


def parse(args: list[str]) -> tuple[EvalConfig, Path]:
    """The configuration, and the folder of the results. Raises ConfigError."""
    config: EvalConfig = compose("eval", args)
    return config, Path(config.output or f"runs/eval/{value_of(args, 'recipes') or 'eval'}")


def work(parsed: tuple[EvalConfig, Path]) -> int:
    """Evaluate every checkpoint on every task.

    Raises:
        ConfigError and others: checkpoints, tasks or data that cannot be evaluated.
    """
    config, folder = parsed
    configs = [load_task(name) for name in config.tasks]
    names = expand_model_names(config.checkpoints)
    refuse_other_kinds(folder, "eval", "output")

    from data_prep.dedup.trained import trained_on
    from medvlp.builders.models import open_model
    from medvlp.builders.tasks import build_task, check_fit
    from medvlp.builders.trained import training_splits
    from medvlp.environment import choose_device, set_up_libraries
    from medvlp.eval.bootstrap import Bootstrap
    from medvlp.eval.results import write_result
    from medvlp.eval.task import TaskSettings
    from medvlp.eval.trained import Trained
    from medvlp.report import results_table, write_run_report
    from medvlp.shards.atomic import remove_leftovers, write_text

    set_up_libraries()
    check_fit(names, configs)
    settings = TaskSettings(Bootstrap(config.resamples, config.seed), config.batch_size)
    tasks = [build_task(task, settings, config.split) for task in configs]
    device = choose_device(config.accelerator)
    rows: list[dict[str, Any]] = []
    with claim(folder, "eval"):
        remove_leftovers(folder)
        for name in names:
            model = open_model(name, device, config)
            is_ours = name.scheme == "checkpoint"
            train, unknown = training_splits(name.target) if is_ours else ([], ["what others trained it on"])
            for task in tasks:
                print(f"{name.text}: {task.name}", flush=True)
                matches = trained_on(train, task.dataset)
                trained = Trained(matches, [str(split.folder) for split in train], unknown)
                result = replace(task, trained=trained).run(model)
                if not rows:  # an evaluation that fails before its first result leaves no folder
                    write_text(folder / "config.yaml", yaml.safe_dump(as_dict(config), sort_keys=False))
                rows += write_result(folder, name.text, result)
        print(results_table(rows))
        print(f"results: {folder / 'results.jsonl'}\nreport: {write_run_report(folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
