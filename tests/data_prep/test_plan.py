"""From choices to stages: what is done, in which order, what is refused, and what makes a unit another one."""

import hashlib
import json
import re
from dataclasses import replace
from importlib.metadata import version

import pytest

from data_prep.deidentify.pseudonym import key_id
from data_prep.errors import PrepError
from data_prep.plan import BASE_TOOLS, PreparationPlan, dataset_stages, digest_of, make_plan, unit_stages
from data_prep.source import Source, Unit
from medvlp.config import PrepConfig
from medvlp.shards import Manifest, ShardError, hash_config, write_manifest

IMAGES = {"stage": "check_images", "max_pixels": 64_000_000, "min_side": 16, "max_aspect": 20.0}
PUBLISHED = {"stage": "split", "by": "publisher"}
WRITTEN = {"stage": "write", "samples_per_shard": 1000}
KEY = b"a secret of thirty-two bytes now"


class Reader(Source):
    """A source as far as plans look at it."""

    name = "reader"

    def __init__(self, private=None, tools=()):
        super().__init__("in")
        self.tools = tools
        if private is not None:
            self.private = private

    def options(self):
        return {"style": "plain"}

    def fingerprint(self):
        return {"DOE_JANE.csv": "1234"}

    def units(self):
        return []

    def read(self, unit):
        return iter(())


def config(**choices):
    return PrepConfig(source="reader", input="in", output="out", **choices)


@pytest.fixture
def key(tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(tmp_path / "key"))
    return {"stage": "pseudonymise", "key_id": key_id(KEY)}


def names(stages):
    return [entry["stage"] for entry in stages]


def test_the_stages_of_a_public_source():
    assert unit_stages(config(), Reader()) == [
        {"stage": "clean_text"},
        {"stage": "need_text"},
        {"stage": "licence_gate", "allow": [], "allow_retracted": False},
        IMAGES,
        {"stage": "modality"},
        {"stage": "measure"},
        {"stage": "describe", "side": 128},
    ]


def test_everything_at_once_in_order(key):
    choices = {"licences": ["CC0"], "retracted": True, "panels": "split", "languages": ["en"], "deidentify": "all"}
    assert unit_stages(config(**choices, min_side=3, max_pixels=9, max_aspect=2.0), Reader()) == [
        {"stage": "clean_text"},
        {"stage": "need_text"},
        {"stage": "licence_gate", "allow": ["CC0"], "allow_retracted": True},
        {"stage": "check_images", "max_pixels": 9, "min_side": 3, "max_aspect": 2.0},
        {"stage": "modality", "closed": True},
        {"stage": "split_panels"},
        {"stage": "language", "keep": ["en"]},
        key,
        {"stage": "deidentify_text"},
        {"stage": "strip_metadata"},
        {"stage": "deidentify_pixels", "most": 0.2},
        {"stage": "measure"},
        {"stage": "describe", "side": 128},
    ]


@pytest.mark.parametrize(
    ("licences", "retracted", "expected"),
    [
        ([], False, {"allow": [], "allow_retracted": False}),  # retracted articles are kept out without any licences
        ([], True, None),
        (["CC0", "CC-BY"], False, {"allow": ["CC0", "CC-BY"], "allow_retracted": False}),
        (["CC0"], True, {"allow": ["CC0"], "allow_retracted": True}),
    ],
)
def test_when_there_is_a_gate(licences, retracted, expected):
    stages = unit_stages(config(licences=licences, retracted=retracted), Reader())
    gates = [entry for entry in stages if entry["stage"] == "licence_gate"]
    assert gates == ([{"stage": "licence_gate", **expected}] if expected else [])


HIDDEN = [
    *[(private, "auto", []) for private in (None, False)],
    *[(private, "none", []) for private in (None, False)],
    (False, "text", ["pseudonymise", "deidentify_text"]),
    (None, "text", ["pseudonymise", "deidentify_text"]),
    (False, "pixels", ["pseudonymise", "strip_metadata", "deidentify_pixels"]),
    (False, "all", ["pseudonymise", "deidentify_text", "strip_metadata", "deidentify_pixels"]),
    # A private source gives pseudonyms itself.
    (True, "auto", ["deidentify_text", "strip_metadata", "deidentify_pixels"]),
    (True, "all", ["deidentify_text", "strip_metadata", "deidentify_pixels"]),
]


@pytest.mark.parametrize(("private", "deidentify", "expected"), HIDDEN)
def test_what_is_hidden(key, private, deidentify, expected):
    plan = make_plan(config(deidentify=deidentify), Reader(private))
    hiding = {"pseudonymise", "deidentify_text", "strip_metadata", "deidentify_pixels"}
    assert [name for name in names(plan.stages) if name in hiding] == expected
    assert plan.is_deidentified == bool(expected)
    assert [entry for entry in plan.stages if entry["stage"] == "pseudonymise"] == [key] * ("pseudonymise" in expected)
    modality = next(entry for entry in plan.stages if entry["stage"] == "modality")
    assert modality == ({"stage": "modality", "closed": True} if expected else {"stage": "modality"})
    # Files may be named after patients.
    assert ("DOE" in json.dumps(plan.described())) == (not expected)
    assert len(plan.input) == 1


@pytest.mark.parametrize("deidentify", ["none", "text", "pixels"])
@pytest.mark.parametrize("checks", [True, False])
def test_private_data_do_not_leave_as_they_are(deidentify, checks):
    complaint = rf"deidentify={deidentify}: reader comes from patients' records, .*leave deidentify out"
    with pytest.raises(PrepError, match=complaint):
        make_plan(config(deidentify=deidentify, checks=checks), Reader(private=True))


@pytest.mark.parametrize(
    ("private", "deidentify"), [(True, "auto"), (True, "all"), (False, "all"), (None, "text"), (None, "pixels")]
)
def test_what_has_to_be_hidden_is_not_only_packed(private, deidentify):
    with pytest.raises(PrepError, match="checks=false only packs files, but what reader reads has to be de-identified"):
        make_plan(config(deidentify=deidentify, checks=False), Reader(private))


@pytest.mark.parametrize("deidentify", ["auto", "none"])
def test_public_files_can_be_only_packed(deidentify):
    plan = make_plan(config(deidentify=deidentify, checks=False), Reader(private=False))
    assert (plan.stages, plan.dataset_stages, plan.is_deidentified) == ([], [PUBLISHED, WRITTEN], False)
    assert plan.input == {"DOE_JANE.csv": "1234"}


@pytest.mark.parametrize(
    ("choices", "absent"),
    [
        ({"modality": False}, {"modality"}),
        ({"duplicates": "off"}, {"describe"}),
        ({"retracted": True, "modality": False, "duplicates": "off"}, {"licence_gate", "modality", "describe"}),
    ],
)
def test_stages_that_were_not_asked_for(choices, absent):
    everything = names(unit_stages(config(), Reader()))
    assert names(unit_stages(config(**choices), Reader())) == [name for name in everything if name not in absent]


def test_marks_are_taken_for_evaluations_alone():
    assert "describe" in names(unit_stages(config(duplicates="off", decontaminate=["eval/test"]), Reader()))


def test_a_modality_is_closed_where_samples_are_hidden_whatever_was_asked():
    stages = unit_stages(config(modality=False), Reader(private=True))
    assert {"stage": "modality", "closed": True} in stages


def test_the_sources_tools_are_of_the_plan():
    plan = make_plan(config(), Reader(tools=("pyyaml", "no-such-distribution")))
    assert plan.tools["pyyaml"] == version("pyyaml")
    assert plan.tools["no-such-distribution"] == "not installed"
    assert set(plan.tools) == {*BASE_TOOLS, "pyyaml", "no-such-distribution", "imagehash", "scipy"}
    assert plan.tools["numpy"] == version("numpy")


@pytest.mark.parametrize(
    ("choices", "more"),
    [
        ({"checks": False}, set()),
        ({"languages": ["en"]}, {"imagehash", "scipy", "py3langid"}),
    ],
)
def test_the_tools_of_stages_are_of_the_plan(choices, more):
    assert set(make_plan(config(**choices), Reader()).tools) == {*BASE_TOOLS, *more}


def test_a_plan_says_all_in_order():
    plan = make_plan(config(checks=False), Reader())
    read = {"stage": "read", "source": "reader", "style": "plain"}
    assert plan.described() == [{**read, "input": {"DOE_JANE.csv": "1234"}}, PUBLISHED, WRITTEN]


PLAN = PreparationPlan(
    read={"stage": "read", "source": "reader", "style": "plain"},
    input={"table.csv": "1234"},
    stages=[{"stage": "clean_text"}],
    dataset_stages=[PUBLISHED],
    tools={"numpy": "2.0", "pillow": "11.0"},
)
UNIT = Unit("train", 0, [0, 1000])
MARKED = Unit("train", 0, [0, 1000], fingerprint="rows 0 to 1000")


@pytest.mark.parametrize("unit", [UNIT, MARKED])
@pytest.mark.parametrize(
    ("change", "another"),
    [
        ({"read": {**PLAN.read, "style": "fancy"}}, True),
        ({"stages": [{"stage": "clean_text"}, {"stage": "need_text"}]}, True),
        ({"tools": {"numpy": "2.0", "pillow": "11.1"}}, True),
        ({"tools": {"numpy": "2.0"}}, True),
        ({"tools": {"pillow": "11.0", "numpy": "2.0"}}, False),
        ({"dataset_stages": [{"stage": "split", "by": "grouped"}]}, False),
    ],
)
def test_what_makes_a_unit_another_one(unit, change, another):
    assert (replace(PLAN, **change).digest(unit) != PLAN.digest(unit)) == another


def test_only_a_unit_without_a_mark_depends_on_the_whole_input():
    grown = replace(PLAN, input={"table.csv": "5678"})
    assert grown.digest(UNIT) != PLAN.digest(UNIT)
    assert grown.digest(MARKED) == PLAN.digest(MARKED)
    units = [
        UNIT,
        MARKED,
        replace(MARKED, fingerprint="others"),
        replace(UNIT, split="test"),
        replace(UNIT, selection=[0, 999]),
    ]
    assert len({PLAN.digest(unit) for unit in units}) == 5
    # Where a unit stands among others says nothing of what it holds.
    assert PLAN.digest(replace(UNIT, number=7)) == PLAN.digest(UNIT)


def test_a_digest_is_of_canonical_json():
    expected = hashlib.sha256('{"a": 1, "b": ["ü"]}'.encode()).hexdigest()[:32]
    assert digest_of({"b": ["ü"], "a": 1}) == expected


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({"duplicates": "off"}, [PUBLISHED]),
        ({}, [PUBLISHED, {"stage": "duplicates", "action": "report", "in": ["train"], "radius": 10}]),
        (
            {"split": "grouped", "duplicates": "drop", "duplicates_radius": 4},
            [
                {"stage": "split", "by": "grouped"},
                {"stage": "duplicates", "action": "drop", "in": ["train"], "radius": 4},
            ],
        ),
        (
            {"split": "random", "fractions": {"test": 0.25, "train": 0.75}, "split_seed": 3, "duplicates": "off"},
            [{"stage": "split", "by": "random", "fractions": {"train": 0.75, "test": 0.25}, "seed": 3}],
        ),
        ({"checks": False, "duplicates": "drop"}, [PUBLISHED]),  # without checks nobody looked at pictures
    ],
)
def test_what_is_decided_over_all_samples(choices, expected):
    assert dataset_stages(config(**choices)) == [*expected, WRITTEN]


def test_fractions_stand_in_the_order_of_splits():
    """The order in which a person gives them changes no byte of a manifest."""
    choices = {"split": "random", "duplicates": "off"}
    orders = [{"test": 0.25, "valid": 0.25, "train": 0.5}, {"train": 0.5, "valid": 0.25, "test": 0.25}]
    first, second = (json.dumps(dataset_stages(config(fractions=order, **choices))) for order in orders)
    assert first == second


def evaluation(folder, stage):
    """An empty finished split; the stage makes its manifest another one."""
    folder.mkdir(parents=True)
    stages = [{"stage": stage}]
    sha256 = write_manifest(folder, Manifest(folder.name, {}, {}, 0, stages, hash_config(stages), {}))
    return str(folder), sha256


def test_evaluations_are_known_by_name_and_content(tmp_path):
    """Where they stand says nothing, and is not recorded."""
    (first, first_name), (second, second_name) = (
        evaluation(tmp_path / "vqa" / "test", "a"),
        evaluation(tmp_path / "roco" / "test", "b"),
    )
    choices = {"duplicates": "off", "decontaminate": [first, second], "contaminated": "report", "duplicates_radius": 5}
    against = {"vqa/test": first_name, "roco/test": second_name}
    by = ["id", "bytes", "picture", "text"]
    entry = {"stage": "decontaminate", "action": "report", "by": by, "against": against, "radius": 5}
    assert dataset_stages(config(**choices)) == [PUBLISHED, entry, WRITTEN]
    assert list(entry["against"]) == ["vqa/test", "roco/test"]
    assert str(tmp_path) not in json.dumps(dataset_stages(config(**choices)))


@pytest.mark.parametrize("content", ["another", "the same"])
def test_evaluations_of_one_name_are_refused(tmp_path, content):
    """Of two sets called alike one would be checked, and the other would only seem to be."""
    first, _ = evaluation(tmp_path / "one" / "vqa" / "test", "the same")
    second, _ = evaluation(tmp_path / "two" / "vqa" / "test", content)
    with pytest.raises(PrepError, match=f"{re.escape(second)}.*two folders are called the same; rename one"):
        dataset_stages(config(decontaminate=[first, second]))
    with pytest.raises(PrepError, match="two folders are called the same"):
        dataset_stages(config(decontaminate=[first, first]))


def test_an_evaluation_that_is_unfinished_is_refused(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(ShardError, match="test"):
        make_plan(config(decontaminate=[str(tmp_path / "test")]), Reader())


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"languages": ["en", "klingon"]}, "languages: klingon"),
        ({"licences": ["CC-BYE"]}, "CC-BYE"),
    ],
)
def test_names_that_nothing_could_match(choices, complaint):
    with pytest.raises(PrepError, match=complaint):
        make_plan(config(**choices), Reader())
