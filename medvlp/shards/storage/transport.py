"""Bytes of remote files by ranges: fsspec's file systems, tries again, and nothing longer than was asked for."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from medvlp.shards.errors import ShardError
from medvlp.shards.storage.settings import RemoteSettings

BLOCK = 2**20
"""Bytes taken from a stream at once."""
RANGE = 2**24
"""Bytes of one request to an object store."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds; each failure doubles the pause."""
PERMANENT_STATUS = range(400, 500)
TRANSIENT_STATUS = (408, 425, 429)
"""Of the range above those that another try may change."""
PACKAGES = ("aiohttp", "aiobotocore", "botocore", "fsspec", "gcsfs", "httpx", "huggingface_hub", "requests", "s3fs")
"""Whose errors are of the network."""
MISSING = {"http": "fsspec[http]", "https": "fsspec[http]", "hf": "fsspec[http]", "s3": "s3fs", "gs": "gcsfs"}


class NotRanged(Exception):
    """A server answers a request for a range with the whole file."""


class Interrupted(OSError):
    """A server closed the connection early, or sent another range than was asked for."""


class Transport:
    """Reads files behind URLs. Pickled without its connections; each process opens its own, also after a fork."""

    def __init__(self, settings: RemoteSettings) -> None:
        self.settings = settings
        self._systems: dict[str, Any] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_systems": {}, "_process": 0}

    def read(self, url: str, begin: int, end: int) -> bytes:
        """Bytes begin to end of a file. Raises FileNotFoundError, ShardError."""
        parts: list[bytes] = []
        self._receive(url, begin, end, parts.append, parts.clear)
        return b"".join(parts)

    def download(self, url: str, size: int, write: Callable[[bytes], Any], restart: Callable[[], Any]) -> None:
        """A file's `size` bytes in order; restart: begin again, as servers without ranges make necessary.

        Raises FileNotFoundError, ShardError.
        """
        self._receive(url, 0, size, write, restart)

    def read_small(self, url: str, limit: int) -> bytes:
        """A file of unknown size. Raises FileNotFoundError, ShardError where it has more than `limit` bytes."""
        parts: list[bytes] = []

        def attempt() -> bytes:
            parts.clear()
            for block in self._stream(url, 0, limit + 1, is_open_ended=True):
                parts.append(block)
            return b"".join(parts)

        data = self._persist(url, attempt)
        if len(data) > limit:
            raise ShardError(f"{url} has more than {limit} bytes, which no manifest has")
        return data

    def size(self, url: str) -> int:
        """Bytes of a file. Raises FileNotFoundError, ShardError where nobody says."""
        scheme = urlsplit(url).scheme

        def attempt() -> int:
            if scheme not in ("http", "https", "hf"):
                return int(self._system(scheme).info(url)["size"])
            with self._answer(url, {}) as answer:
                return int(answer.r.headers.get("Content-Length", -1))

        size: int = self._persist(url, attempt)
        if size < 0:
            raise ShardError(f"{url}: the server does not say how long it is; copy it to this disk")
        return size

    def find(self, url: str) -> list[str]:
        """Names of the tars below an address, sorted. Raises ShardError where a store cannot list."""
        scheme = urlsplit(url).scheme
        if scheme in ("http", "https"):
            raise ShardError(f"{url}: a web server lists no files; name the tars, as in {url}/{{00000..00099}}.tar")
        system = self._system(scheme)
        root = system._strip_protocol(url).rstrip("/")
        paths = self._persist(url, lambda: system.find(root))
        return sorted(path[len(root) + 1 :] for path in paths if path.endswith(".tar"))

    def _receive(
        self, url: str, begin: int, end: int, write: Callable[[bytes], Any], restart: Callable[[], Any]
    ) -> None:
        """A connection that breaks is taken up where it broke; tries are counted in which no new byte came."""
        position = furthest = begin
        failures = 0
        while position < end:
            try:
                for block in self._stream(url, position, end):
                    write(block)
                    position += len(block)
                if position < end:
                    raise Interrupted(f"the answer ended {end - position} bytes early")
            except NotRanged:
                if begin:
                    raise ShardError(
                        f"{url}: the server sends whole files only, and no ranges; set data.remote.read=shard"
                    ) from None
                restart()
                position = 0
            except Exception as error:
                failures = 0 if position > furthest else failures + 1
                self._pause_or_raise(url, error, failures)
            furthest = max(furthest, position)

    def _persist(self, url: str, attempt: Callable[[], Any]) -> Any:
        failures = 0
        while True:
            try:
                return attempt()
            except Exception as error:
                failures += 1
                self._pause_or_raise(url, error, failures)

    def _pause_or_raise(self, url: str, error: Exception, failures: int) -> None:
        """Wait longer after each failure; what another try cannot change, and what is no error of a network, is raised."""
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in PACKAGES:
            raise error
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(2, "there is no such file", url) from None
        status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
        is_final = isinstance(error, PermissionError) or (status in PERMANENT_STATUS and status not in TRANSIENT_STATUS)
        if is_final or failures >= self.settings.attempts:
            count = "" if is_final else f", {failures} times in a row"
            cause = str(error) or type(error).__name__
            raise ShardError(f"{url} cannot be read{count}: {cause}") from error
        time.sleep(min(FIRST_PAUSE * 2 ** max(failures - 1, 0), LONGEST_PAUSE) * random.uniform(0.5, 1))

    def _stream(self, url: str, begin: int, end: int, is_open_ended: bool = False) -> Iterator[bytes]:
        """Blocks of a range, never more than was asked for; fewer where the connection broke or the file ends.

        is_open_ended: the file may end before `end`, and is asked for from its beginning.
        """
        scheme = urlsplit(url).scheme
        if scheme in ("http", "https", "hf"):
            return self._web_stream(url, begin, end, is_open_ended)
        return self._store_stream(scheme, url, begin, end)

    def _store_stream(self, scheme: str, url: str, begin: int, end: int) -> Iterator[bytes]:
        system = self._system(scheme)
        while begin < end:
            block = system.cat_file(url, start=begin, end=min(begin + RANGE, end))
            yield block[: end - begin]
            begin += len(block)
            if len(block) < RANGE:
                return

    def _web_stream(self, url: str, begin: int, end: int, is_open_ended: bool) -> Iterator[bytes]:
        headers = {} if is_open_ended else {"Range": f"bytes={begin}-{end - 1}"}
        with self._answer(url, headers) as stream:
            if stream.r.status == 206:
                sent = stream.r.headers.get("Content-Range", "")
                if not sent.startswith(f"bytes {begin}-"):
                    raise Interrupted(f"asked for bytes from {begin} on, the answer is of {sent or 'no range'}")
            elif begin:
                raise NotRanged
            while begin < end and (block := stream.read(min(BLOCK, end - begin))):
                yield block
                begin += len(block)

    @contextmanager
    def _answer(self, url: str, headers: dict[str, str]) -> Iterator[Any]:
        """fsspec's stream of a web server's answer, whose headers have come."""
        headers = {"Accept-Encoding": "identity", **headers}
        if urlsplit(url).scheme == "hf":
            url, headers = hub_request(url, headers)
        # A size, so that nothing is asked of the server first, and no blocks: one stream, which is read piece by piece.
        stream = self._system("https").open(url, "rb", size=1, block_size=0, headers=headers)
        try:
            yield stream
        finally:
            stream.close()

    def _system(self, scheme: str) -> Any:
        """fsspec's file system, of this process: connections do not survive a fork."""
        if self._process != os.getpid():
            self._systems, self._process = {}, os.getpid()
        if scheme not in self._systems:
            import fsspec

            try:
                self._systems[scheme] = fsspec.filesystem(scheme, skip_instance_cache=True, **self._options(scheme))
            except (ImportError, ValueError) as error:
                raise ShardError(
                    f"{scheme}:// needs a package that is not here ({error}): pip install '{MISSING[scheme]}', or "
                    f"'medvlp[remote]' with all of them"
                ) from None
        return self._systems[scheme]

    def _options(self, scheme: str) -> dict[str, Any]:
        timeout, anonymous = self.settings.timeout, self.settings.anonymous
        if scheme == "s3":
            limits = {"connect_timeout": timeout, "read_timeout": timeout, "retries": {"max_attempts": 1}}
            return {"anon": anonymous, "config_kwargs": limits, "use_listings_cache": False}
        if scheme == "gs":
            return {"token": "anon" if anonymous else None, "timeout": timeout, "use_listings_cache": False}
        if scheme == "hf":
            return {"use_listings_cache": False}
        import aiohttp

        seconds = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        return {"client_kwargs": {"timeout": seconds}}


def hub_request(url: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The web address of `hf://datasets/<owner>/<name>[@<revision>]/<path>`, and headers with the user's token.

    Raises ShardError where the address is of no dataset or model.
    """
    from huggingface_hub import get_token, hf_hub_url

    kind, _, path = url.removeprefix("hf://").partition("/")
    repo_type = {"datasets": "dataset", "spaces": "space"}.get(kind)
    if repo_type is None:
        path, repo_type = f"{kind}/{path}", "model"
    owner, _, path = path.partition("/")
    name, _, path = path.partition("/")
    name, _, revision = name.partition("@")
    if not (owner and name and path):
        raise ShardError(f"{url}: expected hf://datasets/<owner>/<name>/<folder>")
    address = hf_hub_url(f"{owner}/{name}", path, repo_type=repo_type, revision=revision or "main")
    token = get_token()
    return address, {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
