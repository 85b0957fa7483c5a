"""Scorers of other packages: found by their entry point, and refused with what to install."""

import pytest

from medvlp.config.evaluation.written_text import TEXT_METRICS
from medvlp.eval.errors import TaskError
from medvlp.eval.text.plugins import load_plugin

CODE = '''
class Length:
    """How long a text is; a blank one has no number."""

    def score(self, predictions, references):
        return {"": [len(text) or None for text in predictions], "references": [len(texts) for texts in references]}

    def protocol(self):
        return {"unit": "characters"}


class Short(Length):
    def score(self, predictions, references):
        return {"": [1.0]}


class Endless(Length):
    def score(self, predictions, references):
        return {"": [float("nan")] * len(predictions)}


class Broken:
    def __init__(self):
        raise RuntimeError("no weights here")
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages in a folder of their own, each with its entry points."""

    def install(package, **points):
        (tmp_path / f"{package}_module.py").write_text(CODE)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {package}_module:{target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[medvlp.text_metrics]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_a_plug_in_scores_each_text(installed):
    installed("lengths", length="Length")
    plugin = load_plugin("length", TEXT_METRICS, "made")
    assert plugin.scores(["ab", ""], [["x"], ["x", "y"]]) == [
        {"length": 2.0, "length/references": 1.0},
        {"length": None, "length/references": 2.0},
    ]
    assert plugin.protocol() == {"package": "lengths 1.2", "unit": "characters"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Short", r"metric made of lengths 1.2 gave 1 values, 1 of them finite numbers, for 2 texts"),
        ("Endless", r"gave 2 values, 0 of them finite numbers"),
    ],
)
def test_scores_are_a_number_a_text(installed, target, message):
    installed("lengths", made=target)
    with pytest.raises(TaskError, match=message):
        load_plugin("made", TEXT_METRICS, "task").scores(["a", "b"], [["x"], ["y"]])


def test_a_plug_in_that_does_not_start_is_named(installed):
    installed("lengths", made="Broken")
    with pytest.raises(TaskError, match=r"metric made of lengths 1.2 .* does not start: RuntimeError: no weights here"):
        load_plugin("made", TEXT_METRICS, "task")


def test_two_packages_may_not_bring_one_metric(installed):
    installed("lengths", made="Length")
    installed("widths", made="Length")
    with pytest.raises(
        TaskError, match=r"metric made is brought by (lengths|widths) 1.2 and .*; uninstall all but one"
    ):
        load_plugin("made", TEXT_METRICS, "task")


def test_a_missing_one_is_refused_with_what_to_install(installed):
    with pytest.raises(TaskError) as refusal:
        load_plugin("radgraph", TEXT_METRICS, "reports")
    assert "task reports: metric 'radgraph' is RadGraph F1 (package radgraph, with its weights)" in str(refusal.value)
    assert "entry point 'radgraph' in the group medvlp.text_metrics" in str(refusal.value)
    installed("lengths", length="Length")
    with pytest.raises(
        TaskError, match=r"metric 'lenght' is not one of bleu, .*, nor a plug-in.* Installed plug-ins: length"
    ):
        load_plugin("lenght", TEXT_METRICS, "reports")
