import pytest

from medvlp.config import compose
from medvlp.runs.resuming import run_changes, run_differences, template_changes, template_hashes
from tests.models.tiny import tiny_architecture
from tests.runs import tiny_words


@pytest.fixture(scope="module")
def clip_words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resuming")
    tiny_architecture(folder)
    return tiny_words(folder)


def test_what_a_step_computes_must_stay(clip_words):
    before = compose("train", clip_words)
    assert run_differences(before, compose("train", [*clip_words, "data.workers=3", "trainer.max_steps=99"])) == []
    after = compose("train", [*clip_words, "seed=1", "optim.lr=1e-4", "data.sources.made.weight=2"])
    assert run_differences(before, after) == ["seed", "optim.lr", "data.sources"]


def test_what_changed_is_said_with_both_values(clip_words):
    before, after = (compose("train", [*clip_words, f"trainer.max_steps={n}", f"run_name=run{n}"]) for n in (5, 7))
    assert run_changes(before, after) == ["trainer.max_steps 5 → 7"]


def test_files_of_templates_stay_as_they_were(clip_words, tmp_path):
    path = tmp_path / "kinds.yaml"
    path.write_text("templates: ['a {label}']")
    words = ["data.sources.made.label_captions=kind", f"data.sources.made.label_templates={path}"]
    config = compose("train", [*clip_words, *words])
    old = template_hashes(config)
    assert template_changes(old, config) == template_changes({}, config) == []
    path.write_text("templates: ['one {label}']")
    assert template_changes(old, config) == ["the content of data.sources.made.label_templates"]
