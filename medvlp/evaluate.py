"""`medvlp eval`: checkpoints × tasks → results.jsonl, samples/*.jsonl and report.html."""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from medvlp.config import ConfigError, EvalConfig, as_dict, compose, load_task, value_of
from medvlp.listing import verb_help


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate every checkpoint on every task; see `medvlp eval --help`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--help" in words or "-h" in words:
        print(verb_help("eval"))
        return 0
    recipe = value_of(words, "recipes") or "eval"
    try:
        config: EvalConfig = compose("eval", words)
        tasks = [load_task(name) for name in config.tasks]
        missing = [path for path in config.checkpoints if not Path(path).is_file()]
        if missing:
            hint = "; several are written '[a.ckpt,b.ckpt]'" if "," in missing[0] else ""
            raise ConfigError(f"checkpoints: {missing[0]}: no such file{hint}")
        folder = Path(config.output or f"runs/eval/{recipe}")
    except ConfigError as error:
        print(f"medvlp eval: {error}", file=sys.stderr)
        return 1

    import traceback

    import torch

    from medvlp.build.tasks import build_task, check_fit, load_measured
    from medvlp.environment import settle
    from medvlp.eval.embeddings import EmbeddingCache
    from medvlp.eval.tasks import Bootstrap, write_outcome
    from medvlp.models.pretrained import WeightsError
    from medvlp.report import results_table, write_run_report
    from medvlp.shards import ShardError
    from medvlp.shards.atomic import write_text
    from medvlp.training.checkpoints import CheckpointError

    settle()
    try:
        bootstrap = Bootstrap(config.resamples, config.seed)
        check_fit(config.checkpoints, tasks)
        evaluators = [build_task(task, bootstrap, config.split, config.batch_size) for task in tasks]
        cache = EmbeddingCache(config.batch_size, config.workers, config.max_pixels)
        device = choose_device(config.accelerator, torch.cuda.is_available())
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", yaml.safe_dump(as_dict(config), sort_keys=False))
        rows = []
        for path in config.checkpoints:
            measured = load_measured(path, device, config, cache)
            for evaluator in evaluators:
                print(f"{path}: {evaluator.name}", flush=True)
                rows += write_outcome(folder, path, measured(evaluator))
        print(results_table(rows))
        print(f"results: {folder / 'results.jsonl'}\nreport: {write_run_report(folder)}")
    except (ConfigError, CheckpointError, ShardError, WeightsError, ValueError, OSError) as error:
        print(f"medvlp eval: {error}", file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 70
    return 0


def choose_device(accelerator: str, has_gpu: bool) -> str:
    """cuda or cpu.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if accelerator == "gpu" and not has_gpu:
        raise ConfigError("accelerator=gpu, but PyTorch finds no GPU here; use accelerator=auto or cpu")
    return "cuda" if has_gpu and accelerator != "cpu" else "cpu"


if __name__ == "__main__":
    sys.exit(main())
