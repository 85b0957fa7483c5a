import hashlib
import hmac
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.deidentify.pseudonym import key_id, load_key, pseudonym
from data_prep.errors import PrepError

KEY = bytes(range(32))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MEDVLP_DEID_KEY", raising=False)
    return tmp_path


def test_a_key_is_made_once_and_for_its_owner(home):
    key = load_key(None)
    assert len(key) == 32
    assert load_key(None) == key
    assert stat.S_IMODE((home / ".medvlp" / "deid.key").stat().st_mode) == 0o600
    assert os.listdir(home / ".medvlp") == ["deid.key"]


def test_processes_that_start_together_agree_on_a_key(home):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(load_key, [None] * 32))) == 1


def test_the_option_comes_before_the_variable_and_that_before_the_default(home, monkeypatch):
    made = load_key(None)
    for name in ("one", "two"):
        (home / name).write_bytes(name.encode() * 8)
        (home / name).chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(home / "one"))
    assert load_key(None) == b"one" * 8 != made
    assert load_key(str(home / "two")) == b"two" * 8


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0o600, "cannot be read: No such file or directory; name an existing key, or make one"),
        (b"short", 0o600, "has 5 bytes, expected 16 to 4096"),
        (b"x" * 5000, 0o600, "has more than 4096 bytes"),
        (b"x" * 32, 0o604, "open to every user of this machine; chmod 600"),
    ],
)
def test_a_key_that_will_not_do(home, content, mode, said):
    file = home / "some.key"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    with pytest.raises(PrepError, match=re.escape(said)):
        load_key(str(file))
    assert content is not None or not file.exists()


def test_a_home_that_cannot_be_written(home):
    (home / ".medvlp").write_text("a file where a folder should be")
    with pytest.raises(PrepError, match="set MEDVLP_DEID_KEY to the path of a key"):
        load_key(None)


def test_a_pseudonym_is_hmac():
    digest = hmac.new(KEY, b"patient:4711", hashlib.sha256).digest()
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    bits = f"{int.from_bytes(digest, 'big'):0256b}"
    assert pseudonym(KEY, "patient:4711") == "".join(alphabet[int(bits[i : i + 5], 2)] for i in range(0, 80, 5))


@given(st.text(), st.text(), st.integers(8, 52))
def test_pseudonyms_join_equals_and_part_others(text_a, text_b, length):
    first, second = pseudonym(KEY, text_a, length), pseudonym(KEY, text_b, length)
    assert re.fullmatch(f"[a-z2-7]{{{length}}}", first)
    assert (first == second) == (text_a == text_b)
    assert pseudonym(KEY + b"!", text_a, length) != first


@pytest.mark.parametrize("length", [7, 53])
def test_a_length_that_is_none(length):
    with pytest.raises(ValueError, match="expected 8 to 52"):
        pseudonym(KEY, "text", length)


def test_the_id_of_a_key():
    assert key_id(KEY) == key_id(bytes(range(32))) != key_id(b"x" * 32)
    assert len(key_id(KEY)) == 12
