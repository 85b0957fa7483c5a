"""Old names of keys are taken for one release, wherever a configuration comes from, and the new one is said once."""

import pytest

from medvlp.config import ConfigError, as_dict, compose, expand_grid, from_dict
from medvlp.config.composition import renamed
from medvlp.config.composition.renamed import RENAMED_KEYS, RENAMED_OPTIONS, renamed_values

HEAD = "# @package _global_\nverb: train\ndefaults:\n"
ASSISTANT = ["data=vqa_rad", "model=llava_smol", "trainer.max_steps=1", "optim.parts.language.freeze=true"]
OLD = {
    "model.tower.feature_layer": ("model.vision.feature_layer", -3),
    "data.sources.vqa_rad.texts": ("data.sources.vqa_rad.text_fields", ["caption"]),
    "data.sources.vqa_rad.questions": ("data.sources.vqa_rad.caption_prompts", ["What is it?"]),
    "data.sources.vqa_rad.question": ("data.sources.vqa_rad.question_template", "{question} {organ}"),
    "data.sources.vqa_rad.answer": ("data.sources.vqa_rad.answer_template", "So: {answer}"),
}


@pytest.fixture(autouse=True)
def no_notices(monkeypatch):
    monkeypatch.setattr(renamed, "_notices", set())


def value_at(config, key):
    for name in key.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def notices(capsys):
    return capsys.readouterr().err.splitlines()


def test_every_old_name_is_tried_here():
    assert {renamed.renamed_key(old) for old in OLD} == {new for new, _ in OLD.values()}
    assert compose("check", ["data=vqa_rad", "shown=5"]).examples == 5
    assert len(renamed._notices) == len(RENAMED_KEYS)
    assert RENAMED_OPTIONS == {"objective": {"words": "bag_of_words"}}


@pytest.mark.parametrize(("old", "new", "value"), [(old, *rest) for old, rest in OLD.items()])
def test_an_old_key_on_the_command_line(old, new, value, capsys):
    text = f"[{value[0]}]" if isinstance(value, list) else str(value)
    config = compose("train", [*ASSISTANT, "objective=instruct", f"{old}={text}"])
    compose("train", [*ASSISTANT, "objective=instruct", f"{old}={text}"])
    assert value_at(config, new) == value
    pattern = new.replace("vqa_rad", "*").replace(".feature_layer", "")
    assert [line.split(";")[0] for line in notices(capsys)] == [
        f"medvlp: {old.replace('vqa_rad', '*').replace('.feature_layer', '')} is now {pattern}"
    ]


def test_old_names_in_recipes_and_options_of_ones_own(tmp_path, monkeypatch, capsys):
    for folder in ("recipes", "configs/data", "configs/model", "configs/objective"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "configs/data/own.yaml").write_text(
        "sources: {own: {path: d/train, texts: [caption], questions: ['What?'], answer: 'So: {answer}'}}\n"
    )
    (tmp_path / "configs/model/own.yaml").write_text(
        "defaults: [llava_schema, _self_]\ntower: {source: 'timm:x', size: 96}\n"
    )
    (tmp_path / "configs/objective/own.yaml").write_text("defaults: [words_schema, _self_]\nmin_samples: 3\n")
    options = "".join(f"  - override /{group}: own\n" for group in ("data", "model", "objective"))
    values = (
        "trainer: {max_steps: 1}\noptim: {parts: {language: {freeze: true}}}\nmodel: {tower: {feature_layer: -3}}\n"
    )
    (tmp_path / "recipes/own.yaml").write_text(HEAD + options + values)
    (tmp_path / "recipes/older.yaml").write_text(
        HEAD + options.replace("objective: own", "objective: words") + values + "stages: {a: ['objective=words']}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = compose("train", ["recipes=own"])
    source = config.data.sources["own"]
    assert (source.text_fields, source.caption_prompts, source.answer_template) == (
        ["caption"],
        ["What?"],
        "So: {answer}",
    )
    assert (config.model.vision.source, config.model.vision.size, config.model.vision.feature_layer) == (
        "timm:x",
        96,
        -3,
    )
    assert (config.objective.kind, config.objective.min_samples) == ("bag_of_words", 3)
    older = compose("train", ["recipes=older"])
    assert (
        compose("train", ["recipes=older", *older.stages["a"]]).objective.kind == older.objective.kind == "bag_of_words"
    )
    lines = notices(capsys)
    assert len(lines) == len(set(lines)) == 5
    assert (
        "medvlp: objective=words is now objective=bag_of_words; the old name is taken until the next release" in lines
    )


def test_an_old_option_on_the_command_line_and_in_a_grid(capsys):
    assert compose("train", [*ASSISTANT, "objective=words"]).objective.kind == "bag_of_words"
    cells = expand_grid("train", [*ASSISTANT, "objective=words,instruct", "data.sources.vqa_rad.texts=caption"], True)
    assert [compose("train", cell).objective.kind for cell in cells] == ["bag_of_words", "instruct"]
    assert len(notices(capsys)) == 2


def test_an_option_of_ones_own_keeps_its_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "configs/objective").mkdir(parents=True)
    for name in ("words", "my-words"):
        (tmp_path / f"configs/objective/{name}.yaml").write_text(
            "defaults: [bag_of_words_schema, _self_]\nmin_samples: 3\n"
        )
    monkeypatch.chdir(tmp_path)
    for name in ("words", "my-words"):
        config = compose("train", [*ASSISTANT, f"objective={name}"])
        assert (config.objective.kind, config.objective.min_samples) == ("bag_of_words", 3)
    assert notices(capsys) == []


def test_an_old_kind_on_the_command_line(capsys):
    config = compose("train", [*ASSISTANT, "objective=bag_of_words", "objective.kind=words"])
    assert config.objective.kind == "bag_of_words"
    assert len(notices(capsys)) == 1


def test_the_configuration_in_an_old_checkpoint(capsys):
    config = compose("train", [*ASSISTANT, "objective=bag_of_words", "data.sources.vqa_rad.answer_template={answer}."])
    values = as_dict(config)
    values["objective"]["kind"] = "words"
    values["model"]["tower"] = values["model"].pop("vision")
    source = values["data"]["sources"]["vqa_rad"]
    for new, old in (("text_fields", "texts"), ("caption_prompts", "questions"), ("answer_template", "answer")):
        source[old] = source.pop(new)
    source["question"] = source.pop("question_template")
    assert from_dict(values) == config
    assert from_dict(values) == config
    assert len(notices(capsys)) == 6


def test_names_of_ones_own_are_left_alone(capsys):
    values = {"data": {"sources": {"texts": {"path": "x"}, "a.b": {"path": "y"}}}, "optim": {"parts": {"tower": {}}}}
    assert renamed_values(values) == values
    assert compose("prep", ["source=csv", "input=a", "output=b", "options.texts=x"]).options == {"texts": "x"}
    assert notices(capsys) == []


def test_both_names_of_a_key_at_once_are_refused():
    with pytest.raises(ConfigError, match=r"model.tower and vision are the old name and the new one"):
        renamed_values({"model": {"tower": {}, "vision": {}}})
