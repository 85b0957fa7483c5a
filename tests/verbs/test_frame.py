"""How every verb ends: the user's mistake with a message and 1, a fault of ours with a traceback and 70."""

import ast
import functools
import importlib
from pathlib import Path

import pytest

from medvlp import cli
from medvlp.errors import UserError
from tests.assistants import tiny_clip_checkpoint
from tests.data_prep.folders import write_rocov2
from tests.datasets import pairs, write_split
from tests.eval.statistics.test_comparisons import ITEMS, add, result_of
from tests.runs import tiny_words

TASK = "name: made_retrieval\nkind: retrieval\ndata: {folder}/made\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained CLIP, its run, data to evaluate it on, and a publisher's files."""
    made = tmp_path_factory.mktemp("frame")
    tiny_clip_checkpoint(made)
    write_split(made / "made/test", pairs(8))
    (made / "configs/task").mkdir(parents=True)
    (made / "configs/task/made_retrieval.yaml").write_text(TASK.format(folder=made))
    write_rocov2(made / "rocov2")
    for name in ("a.ckpt", "b.ckpt"):
        add(made / "compared", name, result_of(ITEMS))
    return made


PLANTS = {
    "prep": ["data_prep.pipeline:make_plan", "data_prep.pipeline:lay_out"],
    "index": ["medvlp.shards.foreign.dataset:index_shard"],
    "score": ["medvlp.eval.scores.columns:quality_of"],
    "verify": ["medvlp.shards.verify:audit_shard"],
    "check": ["medvlp.data.audit.rules:audit_sample"],
    "plan": ["medvlp.builders.planned:count_pass"],
    "train": ["medvlp.data.order:Order.__init__", "medvlp.training.objectives.contrastive:Contrastive.loss"],
    "eval": ["medvlp.eval.retrieval.image_text:Retrieval.run"],
    "compare": ["medvlp.eval.statistics.comparisons:paired_differences"],
    "report": ["medvlp.report.run.page:write_page"],
    "export": ["medvlp.export.open_clip:probe"],
    "ask": ["medvlp.builders.schemes.checkpoint:model_kind"],
    "replay": ["medvlp.training.steps.capture:_read"],
    "cache": ["medvlp.verbs.results.cache:is_store"],
    "list": ["medvlp.verbs.list:list_options"],
    "demo": ["data_prep.pipeline:make_plan"],
}
"""For each verb, functions deep inside of its work."""


def args_of(verb: str, folder: Path, output: Path) -> list[str]:
    checkpoint = folder / "runs/clip/checkpoints/last.ckpt"
    return {
        "prep": ["source=rocov2", f"input={folder}/rocov2", f"output={output}", "workers=1"],
        "index": [f"{folder}/made/train", f"out={output}", "workers=1"],
        "score": [f"{folder}/made/train", f"out={output}", "workers=0"],
        "verify": [f"{folder}/made/train"],
        "check": [f"data.sources.made.path={folder}/made/train"],
        "plan": [*tiny_words(folder), "gpus=1"],
        "train": [*tiny_words(folder), "run_name=planted"],
        "eval": [f"checkpoints=[{checkpoint}]", "tasks=[made_retrieval]", f"output={output}", "workers=0"],
        "compare": [f"{folder}/compared"],
        "report": [f"{folder}/runs/clip"],
        "export": [f"checkpoint={checkpoint}", f"output={output}"],
        "ask": [f"checkpoint={checkpoint}", "accelerator=cpu", "Is it?"],
        "replay": [f"{folder}/runs/clip"],
        "cache": [],
        "list": [],
        "demo": [],
    }[verb]


def test_every_verb_is_planted():
    assert PLANTS.keys() == cli.VERBS.keys()


def exit_code(verb: str, plant: str, error: Exception, folder: Path, tmp_path: Path, monkeypatch) -> int:
    """The exit code of a verb one of whose functions raises an error."""

    def raising(*args, **kwargs):
        raise error

    module, _, name = plant.partition(":")
    *path, name = name.split(".")
    target = functools.reduce(getattr, path, importlib.import_module(module))
    monkeypatch.chdir(tmp_path if verb == "demo" else folder)
    monkeypatch.setenv("MEDVLP_DATA", "data")  # the demo sets its own, which ends with this test
    monkeypatch.setattr(target, name, raising)
    return cli.main([verb, *args_of(verb, folder, tmp_path / "output")])


CASES = [(verb, plant) for verb, plants in PLANTS.items() for plant in plants]


@pytest.mark.parametrize("error", [ValueError("planted"), KeyError("planted")], ids=["ValueError", "KeyError"])
@pytest.mark.parametrize(("verb", "plant"), CASES)
def test_a_fault_of_ours_ends_with_a_traceback_and_70(verb, plant, error, folder, tmp_path, monkeypatch, capsys):
    assert exit_code(verb, plant, error, folder, tmp_path, monkeypatch) == 70
    assert "Traceback (most recent call last)" in (said := capsys.readouterr().err)
    assert f"{type(error).__name__}: {error}" in said


@pytest.mark.parametrize(("verb", "plant"), CASES)
def test_what_the_user_can_fix_ends_with_its_message_and_1(verb, plant, folder, tmp_path, monkeypatch, capsys):
    assert exit_code(verb, plant, UserError("planted: give another"), folder, tmp_path, monkeypatch) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    within = "prep" if verb == "demo" else verb
    assert f"medvlp {within}: planted: give another\n" in said


@pytest.mark.parametrize("verb", cli.VERBS.values(), ids=list(cli.VERBS))
def test_a_verb_leaves_errors_and_signals_to_the_frame(verb):
    """No except-list of its own, and no loop over arguments: `main` is run_verb."""
    module = verb.load()
    assert {"usage", "parse", "work", "main"} <= vars(module).keys()
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    types = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is not None]
    single = [item for type_ in types for item in (type_.elts if isinstance(type_, ast.Tuple) else [type_])]
    caught = {ast.unparse(item).rpartition(".")[2] for item in single}
    allowed = {
        "ask": {"KeyboardInterrupt", "Stopped", "BadQuestion"},  # a conversation goes on, or ends by Ctrl-C
        "train": {"UserError", "OSError", "Refused"},  # ranks tell each other first
    }
    assert caught <= allowed.get(verb.name, set())
