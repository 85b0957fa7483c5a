"""What every source states of itself."""

from dataclasses import fields

import pytest

from data_prep.source import Source
from data_prep.sources import SOURCES, source_class, source_help
from data_prep.vocabulary.licences import UNKNOWN, normalise


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
