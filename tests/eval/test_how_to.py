"""docs/how-to/add-a-task.md by its own text: its kind, read from a task file and run on colours."""

import re
from pathlib import Path

import pytest

from medvlp.builders.tasks import missing_capabilities
from medvlp.config import ConfigError, load_task
from medvlp.config import tasks as options
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.models.assistant import AssistantModel
from medvlp.eval.task import TaskSettings
from tests.eval.colour_world import ColourEncoder, FakeDataset, sample
from tests.results import write_result

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-task.md"


@pytest.fixture
def kind(tmp_path, monkeypatch):
    """The class of the page, its options in config/tasks.py, and its task in the working folder."""
    schema, line, code, task = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    namespace = {**vars(options), "__name__": options.__name__}
    exec(compile(schema, str(PAGE), "exec"), namespace)
    monkeypatch.setattr(options, "TwoCaptionsConfig", namespace["TwoCaptionsConfig"], raising=False)
    for name, (option_class, _) in eval(f"{{{line}}}", namespace).items():
        monkeypatch.setitem(options.TASKS, name, (option_class, "tests.eval.test_how_to:module"))
    exec(compile(code, str(PAGE), "exec"), module := {"__name__": "two_captions"})
    monkeypatch.setitem(globals(), "module", module["TwoCaptions"])
    (tmp_path / "configs/task").mkdir(parents=True)
    (tmp_path / "configs/task/rocov2_two_captions.yaml").write_text(task, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return module["TwoCaptions"]


def test_the_kind_of_the_page_measures_a_model(kind, tmp_path):
    config = load_task("rocov2_two_captions")
    assert config.text == "caption"
    rows = [
        sample("a", "red", "p1", "red"),
        sample("b", "green", "p2", "green"),
        sample("c", "grey", "p3", "red"),  # as near to its own caption as to the next one's: a tie
        sample("d", "yellow", "p4", "blue"),  # nearer to a's, which comes after the last
        sample("e", "blue", "p5", ""),
    ]
    task = kind.from_config(config, FakeDataset(rows), TaskSettings(Bootstrap(resamples=0)))
    result = task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000))
    assert [(metric.name, metric.value, metric.n) for metric in result.metrics] == [("acc1", 2 / 4, 4)]
    assert [record["prediction"] for record in result.records] == ["a", "b", "d", "a"]
    assert result.protocol["exclusions"] == ["1 of 5 samples: no text caption"]
    (row,) = write_result(tmp_path, "a.ckpt", result)
    assert (row["task"], row["protocol"]["kind"]) == ("rocov2_two_captions", "two_captions")


def test_it_is_refused_where_it_does_not_fit(kind, tmp_path):
    assert missing_capabilities(load_task("rocov2_two_captions"), AssistantModel.offers) == [
        "encode_image",
        "encode_text",
    ]
    path = tmp_path / "configs/task/rocov2_two_captions.yaml"
    path.write_text(path.read_text() + "recall_at: [1]\n")
    with pytest.raises(
        ConfigError,
        match=r"recall_at is an option of kind: retrieval or .*, and this task is of kind: two_captions",
    ):
        load_task("rocov2_two_captions")
