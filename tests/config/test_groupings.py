"""Fields by which results are given, as they are written."""

import pytest

from medvlp.config import ConfigError, compose
from medvlp.config.evaluation.groupings import Grouping, parse_grouping, parse_groupings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modality", Grouping("modality", "modality")),
        ("age:0-40-65", Grouping("age:0-40-65", "age", (0.0, 40.0, 65.0))),
        ("size:0.5", Grouping("size:0.5", "size", (0.5,))),
    ],
)
def test_a_field_and_its_edges(text, expected):
    assert parse_grouping(text) == expected


@pytest.mark.parametrize("text", ["", ":0-40", "age:", "age:old", "age:65-40", "age:40-40", "age:0-inf"])
def test_what_is_no_field_is_refused_with_the_form(text):
    with pytest.raises(ConfigError, match=r"people=.*age:0-40-65"):
        parse_grouping(text, "people")


def test_a_field_named_twice_is_one():
    assert [grouping.text for grouping in parse_groupings(["sex", "age", "sex"])] == ["sex", "age"]


def test_they_are_read_from_the_command_line(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"")
    config = compose("eval", [f"checkpoints=[{path}]", "tasks=[vqa_rad]", "by=[modality,age:0-40-65]", "people=[sex]"])
    assert (config.by, config.people) == (["modality", "age:0-40-65"], ["sex"])
    for word in ("by=[age:x]", "specificity=1.5"):
        with pytest.raises(ConfigError, match=word.partition("=")[0]):
            compose("eval", [f"checkpoints=[{path}]", "tasks=[vqa_rad]", word])
