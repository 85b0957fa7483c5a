import pytest

from data_prep.deidentify.pseudonym import key_id, load_key, pseudonym
from data_prep.draft import Draft, Drop
from data_prep.errors import PrepError
from data_prep.stages import pseudonymise as module
from data_prep.stages.pseudonymise import pseudonymise, pseudonymised_drop
from medvlp.shards import Conversation, Sample, Turn


@pytest.fixture
def key(tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(b"a secret of thirty-two bytes now")
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(tmp_path / "key"))
    module._key.cache_clear()
    yield load_key()
    module._key.cache_clear()


def sample(number=0):
    return Sample(
        f"set__DOE-{number}__0__0",
        texts={"caption": "c"},
        conversations=[Conversation([Turn("user", "q"), Turn("assistant", "a")], id=f"DOE-q{number}")],
        metadata={
            "source": "set",
            "group": "DOE JANE",
            "group_kind": "patient",
            "original_name": f"DOE_{number}.jpg",
            "licence": "CC0-1.0",
            "image_id": "DOE",
            "ward": "7 of St Mary's",
        },
    )


def test_names_become_pseudonyms_and_groups_stay_groups(key):
    first, second = (pseudonymise(Draft(sample(n)), key_id(key)) for n in (0, 1))
    group = pseudonym(key, "group:DOE JANE")
    assert first.sample.metadata == {
        "source": "set",
        "group": group,
        "group_kind": "patient",
        "original_name": pseudonym(key, "name:DOE_0.jpg"),
        "licence": "CC0-1.0",
    }
    assert first.sample.key == f"set__{group}__{pseudonym(key, 'key:set__DOE-0__0__0')}__0"
    assert second.sample.metadata["group"] == group
    assert second.sample.key != first.sample.key
    assert first.sample.conversations[0].id == pseudonym(key, "question:DOE-q0")
    assert "DOE" not in repr((first.sample, second.sample))
    assert first.counts == {
        ("pseudonymise", "metadata fields left out"): 2,
        ("pseudonymise", "samples renamed"): 1,
    }


def test_published_articles_keep_their_names(key):
    published = sample()
    published.metadata |= {"article": "PMC1", "authors": ["J Doe"]}
    draft = pseudonymise(Draft(published), key_id(key))
    assert draft.sample.key == "set__DOE-0__0__0"
    assert draft.sample.metadata["authors"] == ["J Doe"]


def test_drops_are_named_by_pseudonyms(key):
    drop = Drop("read", "missing_image", "DOE_0.jpg is not there")
    drop.name = "DOE_0.jpg"
    hidden = pseudonymised_drop(drop, key_id(key))
    assert (hidden.name, hidden.detail) == (pseudonym(key, "name:DOE_0.jpg"), "")
    pixels = Drop("check_images", "too_small", "jpg is 8 × 8, min_side is 16")
    assert pseudonymised_drop(pixels, key_id(key)).detail == "jpg is 8 × 8, min_side is 16"


def test_another_key_is_refused(key):
    with pytest.raises(PrepError, match="the preparation was begun with other"):
        pseudonymise(Draft(sample()), "other")
