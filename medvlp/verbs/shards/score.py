"""`medvlp score`: columns about a split's samples, next to its shards, for the conditions of `where`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medvlp.cli import run_verb
from medvlp.config import ConfigError, EvalConfig, ScoreConfig, compose, verb_help
from medvlp.config.model_names import parse_model_name
from medvlp.errors import UsageError
from medvlp.selection.scores import SCORES, check_table_name
from medvlp.shards.storage import is_url
from medvlp.terminal import printable


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp score`, and `torchrun -m medvlp.verbs.shards.score` on several ranks; returns the exit code."""
    return run_verb("score", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    keys = verb_help("score").split("\n", 2)[2]
    return (
        "usage: medvlp score <split> [checkpoint=<name>] [key=value ...]\n\n"
        "Writes a table of scores next to the shards, which stay as they are: similarity of images and texts, quality of\n"
        "images, near-duplicates. `data.sources.<name>.where` selects by its columns. Stopped, it goes on where it was.\n\n"
        + keys
    )


def parse(args: list[str]) -> tuple[ScoreConfig, str]:
    """The configuration, and the split. Raises UsageError, ConfigError."""
    options = [arg for arg in args if "=" in arg and not is_url(arg.partition("=")[0])]
    folders = [arg for arg in args if arg not in options]
    if len(folders) != 1 or folders[0].startswith("-"):
        raise UsageError
    config: ScoreConfig = compose("score", options)
    check_table_name(table_name(config))
    return config, folders[0]


def table_name(config: ScoreConfig) -> str:
    """Of the table."""
    return config.name or ("scores" if config.checkpoint else "quality")


def work(parsed: tuple[ScoreConfig, str]) -> int:
    """Score the split, or this rank's share of it.

    Raises:
        ShardError: no finished split.
        UserError: a model that gives no embeddings of images and texts, or a table of this name that is there already.
    """
    from medvlp.environment import set_up_libraries
    from medvlp.training.process_group import process_group

    set_up_libraries()
    with process_group():
        return score(*parsed)


def score(config: ScoreConfig, path: str) -> int:
    """Score the split, on one rank or on several that talk to each other. Raises as `work`."""
    from medvlp.data.images.decode import VERSION
    from medvlp.distributed import rank
    from medvlp.eval.scores.columns import Scorer
    from medvlp.eval.scores.parts import ScoreJob
    from medvlp.shards import ShardDataset
    from medvlp.shards.storage import split_folder

    dataset = ShardDataset(split_folder(path))
    target = (Path(config.out) if config.out else dataset.folder / SCORES) / f"{table_name(config)}.parquet"
    plan = {
        "manifest": dataset.manifest_hash,
        **(facts_of(config) if config.checkpoint else {}),
        "text_fields": list(config.text_fields),
        "duplicates": config.duplicates,
        "part": config.part,
        "batch_size": config.batch_size,
        "max_pixels": config.max_pixels,
        "decoding": VERSION,
    }

    def scorer() -> Scorer:
        encoder = opened(config) if config.checkpoint else None
        return Scorer(dataset, encoder, config.text_fields, config.batch_size, config.workers, config.max_pixels)

    job = ScoreJob(target, len(dataset), config.part, plan, config.duplicates, tell)
    problems = job.run(scorer)
    if rank() == 0:
        reasons = "".join(f"; {count} without a score: {reason}" for reason, count in problems.items())
        tell(f"{len(dataset)} samples in {target}{reasons}")
    return 0


def facts_of(config: ScoreConfig) -> dict[str, Any]:
    """What a description says of the model. Raises ConfigError, UserError."""
    from medvlp.builders.models import identity_of, model_kind_of
    from medvlp.environment import choose_device

    name = parse_model_name(config.checkpoint)
    kind = model_kind_of(name)
    if not {"encode_image", "encode_text"} <= set(kind.offers):
        raise ConfigError(
            f"checkpoint={config.checkpoint} is {kind.title}, which gives no embeddings of images and texts; name a CLIP"
        )
    device = choose_device(config.accelerator).partition(":")[0]
    return {"model": name.text, "identity": identity_of(name), "device": device, "load": asdict(config.load)}


def opened(config: ScoreConfig) -> Any:
    """The model's encoder. Raises UserError."""
    from medvlp.builders.models import open_model
    from medvlp.environment import choose_device

    evaluation = EvalConfig(
        checkpoints=[config.checkpoint],
        tasks=[],
        batch_size=config.batch_size,
        workers=config.workers,
        load=config.load,
    )
    model: Any = open_model(parse_model_name(config.checkpoint), choose_device(config.accelerator), evaluation)
    return model.encoder


def tell(line: str) -> None:
    """Show how far it is."""
    print(printable(line), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
