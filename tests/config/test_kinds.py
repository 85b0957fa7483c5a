"""A kind of model or objective is its dataclass and one line in a table; one from outside is registered and then a kind."""

import ast
import inspect
from dataclasses import dataclass

import pytest
import yaml

from medvlp.config import ConfigError, ObjectiveConfig, TrainConfig, as_dict, compose, from_dict, list_options, register
from medvlp.config.composition.search import SHIPPED
from medvlp.config.kinds import KINDS, VERBS


@dataclass(kw_only=True)
class FocalConfig(ObjectiveConfig):
    """An objective of somebody else's."""

    kind: str = "focal"
    gamma: float = 2.0
    """How much an easy example counts less."""

    def check(self, training: TrainConfig) -> None:
        if self.gamma < 0:
            raise ConfigError(f"objective.gamma={self.gamma} must not be negative")
        if training.trainer.accumulate > 1:
            raise ConfigError("objective=focal and trainer.accumulate do not go together")


@pytest.mark.parametrize(("group", "kind"), [(group, kind) for group, kinds in KINDS.items() for kind in kinds])
def test_a_kind_has_its_name_its_rules_and_an_option(group, kind):
    schema = KINDS[group][kind]
    assert schema().kind == kind
    assert "check" in vars(schema)
    schemas = [
        yaml.safe_load((SHIPPED / "configs" / group / f"{option}.yaml").read_text())["defaults"][0]
        for option in list_options(f"configs/{group}")
    ]
    assert f"{kind}_schema" in schemas


def test_no_other_room_of_configuration_names_a_kind():
    names = {kind for kinds in KINDS.values() for kind in kinds}
    for verb in VERBS.values():
        tree = ast.parse(inspect.getsource(inspect.getmodule(verb.config)))
        assert not names & {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}, verb.config


def test_a_kind_from_outside_is_composed_checked_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "objective", dict(KINDS["objective"]))
    register("objective", "focal", FocalConfig)
    (tmp_path / "configs/objective").mkdir(parents=True)
    (tmp_path / "configs/objective/focal.yaml").write_text("# Focal\ndefaults: [focal_schema, _self_]\ngamma: 3\n")
    monkeypatch.chdir(tmp_path)
    words = ["recipes=clip_rocov2", "objective=focal"]
    config = compose("train", [*words, "objective.gamma=1.5"])
    assert config.objective == FocalConfig(gamma=1.5)
    assert compose("train", words).objective.gamma == 3
    assert from_dict(as_dict(config)) == config
    for word, message in (
        ("objective.gamma=-1", "must not be negative"),
        ("objective.gama=1", "did you mean 'objective.gamma'"),
        ("objective.same_text=masked", "is not a key of the chosen objective"),
        ("trainer.accumulate=2", "do not go together"),
    ):
        with pytest.raises(ConfigError, match=message):
            compose("train", [*words, word])
