"""Groups of tasks: what a group's name stands for, and what a task file says of its data."""

from dataclasses import fields

import pytest

from data_prep.cli import origin_of
from data_prep.sources import option_names
from medvlp.config import (
    ConfigError,
    PrepConfig,
    compose,
    expand_tasks,
    list_options,
    load_task,
    task_groups,
    value_of,
)
from medvlp.config.evaluation.task import GROUPS
from medvlp.verbs import list as list_verb
from tests.datasets import pairs, write_split


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Tasks a and b of the group lab, c of lab and cxr, text which has the name of a shipped group."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/task").mkdir(parents=True)
    for name, groups in (("b", "[lab]"), ("a", "[lab]"), ("c", "[lab, cxr]"), ("text", "[]")):
        text = f"# Task {name}\nname: {name}\nkind: vqa\ndata: made/{name}\ngroups: {groups}\n"
        (tmp_path / f"configs/task/{name}.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lab"], ["a", "b", "c"]),
        (["c", "lab"], ["c", "a", "b"]),
        (["b", "lab", "b"], ["b", "a", "c"]),
        (["text"], ["text"]),  # a task goes before a group of its name
        (["nobody"], ["nobody"]),  # load_task refuses it
        (["cxr"], ["c", "chexpert", "ms_cxr", "padchest", "pneumoniamnist", "vindr_cxr"]),
        ([], []),
    ],
)
def test_a_group_is_its_tasks_by_the_alphabet_in_its_position(tasks, names, expected):
    assert [name for name in expand_tasks(names) if len(name) < 10 or name in expected] == expected


def test_a_training_has_the_tasks_of_a_group_in_its_configuration(tasks):
    config = compose("train", ["recipes=clip_rocov2", "tasks=[lab]", "trainer.monitor=c/exact_match"])
    assert config.tasks == ["a", "b", "c"]
    assert compose("eval", ["checkpoints=[x]", "tasks=[lab]"]).tasks == ["lab"]


def test_an_unknown_name_is_answered_with_tasks_and_groups(tasks):
    with pytest.raises(
        ConfigError, match=r"unknown task 'labs'; did you mean 'lab'\? .*groups of tasks: .*cxr.*, lab, "
    ):
        load_task("labs")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("groups: [exam]", r"task mine: groups='exam' is no group; did you mean 'exams'\?"),
        ("groups: ['a/b']", r"groups='a/b' must be a plain folder name: a slash"),
        ("prep: [options.language=en]", r"task mine: prep=\['options.language=en'\], expected the arguments"),
        ("prep: [source=slake, output=x]", "expected the arguments of `medvlp prep` but input and output"),
        ("prep: [source=slake, en]", "expected the arguments"),
    ],
)
def test_keys_of_the_listing_are_checked(tasks, line, message):
    (tasks / "configs/task/mine.yaml").write_text(f"name: mine\nkind: vqa\ndata: d\n{line}\n")
    with pytest.raises(ConfigError, match=message):
        load_task("mine")


def test_every_shipped_task_is_in_a_group_and_says_how_its_data_are_made():
    groups = task_groups()
    assert groups.keys() <= GROUPS.keys()
    for name in list_options("configs/task"):
        task = load_task(name)
        assert task.groups == sorted(task.groups) != [], name
        origin = origin_of(task.prep)
        assert origin.title, name
        assert not origin.files or origin.page, name
        source, keys = value_of(task.prep, "source"), {argument.partition("=")[0] for argument in task.prep}
        options = {key.removeprefix("options.") for key in keys if key.startswith("options.")}
        assert options <= set(option_names(source)), name
        assert {key for key in keys if "." not in key} <= {field.name for field in fields(PrepConfig)}, name


def test_tasks_are_listed_by_group_with_their_data(tasks, capsys):
    write_split(tasks / "made/b/test", pairs(3))
    (tasks / "made/c").mkdir()
    assert list_verb.main(["tasks"]) == 0
    said = capsys.readouterr().out
    _, _, of_lab = said.partition("\nlab\n")
    lines = [line.split() for line in of_lab.splitlines()[:3]]
    assert lines == [
        ["a", "vqa", "test", "made/a", "(not", "prepared)", "Task", "a"],
        ["b", "vqa", "test", "made/b", "(3", "samples)", "Task", "b"],
        ["c", "vqa", "test", "made/c", "(has", "no", "test)", "Task", "c"],
    ]
    assert "\ncxr  chest X-rays\n" in said
    assert "\n(in no group)\n  text " in said


def test_a_task_says_which_files_it_needs_and_from_where(tasks, monkeypatch, capsys):
    monkeypatch.setenv("MEDVLP_DATA", "/data here")
    assert list_verb.main(["tasks", "slake", "mni152_plane", "a"]) == 0
    slake, plane, a = capsys.readouterr().out.split("\n\n")
    assert "data    /data here/slake (not prepared)" in slake
    assert "train.json, validate.json, test.json, and imgs/.\n" in slake
    assert "They are at https://www.med-vqa.com/slake/ (licence: CC-BY-4.0). Prepare it with\n" in slake
    assert "  medvlp prep source=slake input=<the publisher's files> output='/data here/slake'" in slake
    assert "It needs no files" in plane
    assert "medvlp prep source=mni152 output=" in plane
    assert "medvlp prep source=<name> input=<the publisher's files> output=made/a" in a
    assert list_verb.main(["tasks", "labs"]) == 1
    assert "no task or group 'labs'; did you mean 'lab'?" in capsys.readouterr().err
