"""What every source states of itself."""

from dataclasses import fields

import pytest

from data_prep.errors import PrepError
from data_prep.source import Source, facts_of
from data_prep.sources import SOURCES, open_source, source_class, source_help
from data_prep.vocabulary.licences import UNKNOWN, normalise


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_states_its_facts(name):
    source = source_class(name)
    assert issubclass(source, Source)
    assert source.name == name
    assert source.description
    assert "\n" not in source.description
    assert source.licence in ("", UNKNOWN) or normalise(source.licence) == source.licence
    facts = facts_of(source)
    assert facts["name"] == name
    if source.publication:
        assert facts["publication"]["url"].startswith("https://")
        assert source.publication.citation.endswith(f", {source.publication.year}.")
    options = [field.name for field in fields(source.option_type)]
    assert source.flag_option in ("", *options)
    text = source_help(name)
    assert all(f"options.{option} = " in text for option in options)


def test_a_flag_and_its_option_may_say_the_same(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    for name in ("images", "others"):
        (tmp_path / name).mkdir()
    for options in ({}, {"images": ""}, {"images": "images"}, {"images": None}):
        assert open_source("llava_json", str(tmp_path / "a.json"), flag="images", options=options)
    with pytest.raises(PrepError, match=r"flag=images and options\.images=others differ"):
        open_source("llava_json", str(tmp_path / "a.json"), flag="images", options={"images": "others"})
