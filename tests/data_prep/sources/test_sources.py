"""What every source states, and which rooms may know of it."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

import data_prep
from data_prep.source import Source
from data_prep.sources import SOURCES, source_class, source_help
from data_prep.vocabulary.licences import UNKNOWN, normalise

ROOT = Path(data_prep.__file__).parent
SHARED = ("source.py", "stages", "readers", "captions", "conversations", "vocabulary", "dedup", "deidentify", "panels")


def imported(path):
    """The modules that a file imports, at its top or inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{name.name}" for name in node.names))
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("room", SHARED)
def test_no_arrow_leads_from_what_sources_share_to_a_source(room):
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    arrows = {path.name: sorted(m for m in imported(path) if m.startswith("data_prep.sources")) for path in files}
    assert {name: modules for name, modules in arrows.items() if modules} == {}


@pytest.mark.parametrize("room", ["captions", "conversations", "stages"])
def test_readers_know_neither_captions_nor_conversations_nor_stages(room):
    arrows = [path.name for path in (ROOT / "readers").rglob("*.py") for m in imported(path) if f".{room}" in m]
    assert arrows == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_states_its_facts(name):
    source = source_class(name)
    assert issubclass(source, Source)
    assert source.name == name
    assert source.description
    assert "\n" not in source.description
    assert source.licence in ("", UNKNOWN) or normalise(source.licence) == source.licence
    facts = source.facts()
    assert facts["name"] == name
    if source.publication:
        assert facts["publication"]["url"].startswith("https://")
        assert source.publication.citation.endswith(f", {source.publication.year}.")
    options = [field.name for field in fields(source.option_type)]
    assert source.flag_option in ("", *options)
    text = source_help(name)
    assert all(f"options.{option} = " in text for option in options)
