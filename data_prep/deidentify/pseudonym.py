"""Names in place of names: keyed, so that they join what belongs together and nobody without the key can go back.

A plain hash of a record number is no pseudonym, because all record numbers can be hashed and compared; HMAC with a secret
key is (ENISA, Pseudonymisation techniques and best practices, 2019). The key stays outside of every data set.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from data_prep.errors import PrepError

KEY_VARIABLE = "MEDVLP_DEID_KEY"
"""Environment variable with the path of a key file."""

DEFAULT_KEY = Path("~/.medvlp/deid.key")
MIN_KEY_BYTES = 16
MAX_KEY_BYTES = 4096
MAX_LENGTH = 52
"""Characters that 256 bits give, at 5 bits each."""


def load_key(path: str | None = None) -> bytes:
    """The secret: the bytes of the file `path`, else of the file that $MEDVLP_DEID_KEY names, else of ~/.medvlp/deid.key.

    Only the last is made on first use (32 random bytes that the owner alone can read): a file that somebody named and
    that is not there is a mistake, and a new key would silently give every patient a new name. Raises PrepError.
    """
    chosen_path, origin = path or os.environ.get(KEY_VARIABLE, ""), "the option" if path else f"${KEY_VARIABLE}"
    file = Path(chosen_path or DEFAULT_KEY).expanduser()
    if not chosen_path:
        origin = "the default"
        _make_key(file)
    try:
        with open(file, "rb") as key_file:
            mode = os.fstat(key_file.fileno()).st_mode
            key = key_file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise PrepError(
            f"the key for pseudonyms, {file} (by {origin}), cannot be read: {error.strerror}; name an existing key, or "
            f"make one: (umask 077; head -c 32 /dev/urandom > {file})"
        ) from None
    if mode & stat.S_IRWXO:
        raise PrepError(f"the key for pseudonyms, {file}, is open to every user of this machine; chmod 600 {file}")
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        size = f"more than {MAX_KEY_BYTES}" if len(key) > MAX_KEY_BYTES else str(len(key))
        raise PrepError(
            f"the key for pseudonyms, {file}, has {size} bytes, expected {MIN_KEY_BYTES} to {MAX_KEY_BYTES} random ones"
        )
    return key


def _make_key(file: Path) -> None:
    """Write a new key unless there is one; of several processes that try at once, all end up with the first one's."""
    if file.exists():
        return
    partial = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as key_file:
            key_file.write(secrets.token_bytes(32))
            key_file.flush()
            os.fsync(key_file.fileno())
        with suppress(FileExistsError):  # another process was first
            os.link(partial, file)
        partial.unlink()
    except OSError as error:
        raise PrepError(
            f"a key for pseudonyms cannot be made at {file}: {error.strerror}; set {KEY_VARIABLE} to the path of a key"
        ) from None


def pseudonym(key: bytes, text: str, length: int = 16) -> str:
    """A name for the text: HMAC-SHA256 as lower-case base32 (a–z, 2–7), 5 bits a character, which fits into sample keys.

    At 16 characters (80 bits) two of a billion texts share a name with probability below 10⁻⁶. Put the kind of thing
    in front of the text ("patient:…"), so that equal numbers of different things get different names.
    """
    if not 8 <= length <= MAX_LENGTH:
        raise ValueError(f"length is {length}, expected 8 to {MAX_LENGTH}")
    digest = hmac.new(key, text.encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:length]


def key_id(key: bytes) -> str:
    """Recognises a key without giving it away: for configurations, where another key has to be noticed."""
    return pseudonym(key, "key id of medvlp", 12)
