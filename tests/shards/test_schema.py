import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.shards import BadSample, Conversation, Sample, ShardError, Turn, from_members, make_key, to_members
from medvlp.shards.schema import KEY, ROLES

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, plain, max_size=3)
image_names = st.sampled_from(["jpg", "png", "webp", "nii.gz", "left.jpg", "right.jpg", "t1.nii.gz", "a_b-1.jpeg"])
conversations = st.builds(
    Conversation, st.lists(st.builds(Turn, st.sampled_from(ROLES), text), max_size=3), st.none() | text, objects
)
samples = st.builds(
    Sample,
    key=st.from_regex(KEY, fullmatch=True),
    images=st.dictionaries(image_names, st.binary(max_size=60), max_size=3),
    texts=st.dictionaries(st.sampled_from(["caption", "title", "findings"]), text),
    labels=objects,
    conversations=st.lists(conversations, max_size=2),
    metadata=objects,
)


@given(samples)
def test_a_sample_comes_back_as_it_was(sample):
    members = to_members(sample)
    assert from_members(sample.key, members) == sample
    assert list(members) == [*sorted(sample.images), *(["txt"] if "caption" in sample.texts else []), "json"]


@given(samples)
def test_json_is_canonical(sample):
    data = to_members(sample)["json"]
    again = json.dumps(json.loads(data), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert again.encode() == data


@pytest.mark.parametrize("caption", ["", " two  blanks ", "line\r\nline\n", "\ufeffmark", "ü = u + \u0308", "\x00"])
def test_captions_come_back_exactly(caption):
    assert from_members("k", to_members(Sample("k", texts={"caption": caption}))).texts["caption"] == caption


@pytest.mark.parametrize(
    ("sample", "complaint"),
    [
        (Sample("a.b"), "key 'a.b'"),
        (Sample("a" * 151), "1 to 150 characters"),
        (Sample(""), "key ''"),
        (Sample("k", {"gif": b""}), "image member 'gif'"),
        (Sample("k", {"JPG": b""}), "image member 'JPG'"),
        (Sample("k", {"../x.jpg": b""}), "image member '../x.jpg'"),
        (Sample("k", {"a" * 21 + ".jpg": b""}), "at most 24 characters"),
        (Sample("k", labels={"x": float("nan")}), "labels.x is nan"),
        (Sample("k", labels={"x": [1, {2: 3}]}), "labels.x[1] has the key 2"),
        (Sample("k", labels={"x": (1, 2)}), "labels.x is a tuple"),
        (Sample("k", texts={"caption": "\ud800"}), "caption cannot be written as UTF-8"),
        (Sample("k", conversations=[Conversation([Turn("human", "hi")])]), "turns[0].role is 'human'"),
    ],
)
def test_what_breaks_the_contract_is_refused(sample, complaint):
    with pytest.raises(ShardError) as caught:
        to_members(sample)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"[]", "the whole is a list, expected an object"),
        (b"{", "Expecting property name"),
        (b"\xff{}", "can't decode"),
        (b'{"labels": {"x": NaN}}', "NaN is not JSON"),
        (b'{"labels": {"x": 1e999}}', "1e999 is beyond the range"),
        (b'{"labels": []}', "labels is a list"),
        (b'{"texts": {"title": 3}}', "texts.title is a int"),
        (b'{"conversations": [{"turns": "hi"}]}', "conversations[0].turns is a str"),
        (b'{"conversations": [{"turns": [{"role": "gpt", "text": ""}]}]}', "role is 'gpt'"),
        (b'{"conversations": [{"turns": [], "id": 3}]}', "conversations[0].id is a int"),
        (b'{"colour": 1}', "unknown field 'colour'"),
        (b"[" * 100_000, "recursion"),
    ],
)
def test_json_from_strangers_is_judged(data, complaint):
    with pytest.raises(BadSample) as caught:
        from_members("k", {"json": data})
    assert caught.value.reason == "broken_json"
    assert complaint in caught.value.detail


@pytest.mark.parametrize(
    ("lost", "reason"), [("json", "missing_member"), ("jpg", "missing_member"), ("txt", "missing_member")]
)
def test_a_lost_member_is_noticed(lost, reason):
    members = to_members(Sample("k", {"jpg": b"x"}, {"caption": "c"}))
    del members[lost]
    with pytest.raises(BadSample) as caught:
        from_members("k", members)
    assert caught.value.reason == reason
    assert f"k.{lost}" in caught.value.detail


def test_a_caption_that_is_not_utf8():
    with pytest.raises(BadSample, match="broken_text"):
        from_members("k", {"json": b'{"members":["txt"]}', "txt": b"caf\xe9"})


def test_bad_sample_crosses_processes():
    bad = BadSample("checksum_mismatch", "000000.tar", "k", "k.jpg at byte 512")
    back = pickle.loads(pickle.dumps(bad))
    assert (back.reason, back.shard, back.key, back.detail) == (bad.reason, bad.shard, bad.key, bad.detail)
    assert str(back) == "checksum_mismatch in 000000.tar k: k.jpg at byte 512"


def test_make_key():
    assert make_key("pmc-oa", "PMC1", "Fig3", "4") == "pmc-oa__PMC1__Fig3__4"
    assert make_key("rocov2", "ROCOv2_2023_train_000001") == "rocov2__ROCOv2_2023_train_000001__0__0"


parts = st.text(min_size=0, max_size=80)


@given(st.tuples(parts, parts, parts, parts), st.tuples(parts, parts, parts, parts))
def test_keys_are_legal_and_apart(first, second):
    assert KEY.fullmatch(make_key(*first))
    assert (make_key(*first) == make_key(*second)) == (first == second)


@pytest.mark.parametrize(
    ("first", "second"),
    [(("s", "a.b"), ("s", "a-b")), (("s", "a__b"), ("s", "a_b")), (("s_", "a"), ("s", "_a")), (("s", ""), ("s", "0"))],
)
def test_names_that_look_alike_stay_apart(first, second):
    assert make_key(*first) != make_key(*second)
