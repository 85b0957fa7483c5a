"""URLs of shards: a short list of schemes, and nothing in them that leads elsewhere or runs a program."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

from medvlp.shards.errors import ShardError
from medvlp.shards.manifest import is_name, is_segment

SCHEMES = ("http", "https", "s3", "gs", "hf")


def is_url(text: str) -> bool:
    """Whether a text is meant as an address rather than as a folder; `check_url` says whether it is one that is read."""
    return "://" in text or "::" in text or text.startswith("pipe:")


def check_url(url: str) -> str:
    """The address without a slash at its end.

    Raises:
        ShardError: another scheme, a chain (`::`), a program (`pipe:`), a password, a query, or `..`.
    """
    fault = _fault(url)
    if fault:
        raise ShardError(
            f"{url!r} is not read: {fault}; expected <scheme>://<folder>, with one of {', '.join(SCHEMES)}"
        )
    return url.rstrip("/")


def _fault(url: str) -> str:
    if url.startswith("pipe:") or "::" in url:
        return "addresses that run programs or chain file systems are refused"
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or f"{parts.scheme}://" != url[: len(parts.scheme) + 3]:
        return f"its scheme is {parts.scheme!r}"
    if not parts.netloc:
        return "it names no host or bucket"
    if "@" in parts.netloc:
        return "it holds a user or a password; credentials belong into the environment"
    if parts.query or parts.fragment or "?" in url or "#" in url:
        return "it has a query or a fragment, which change with time or are dropped"
    if not all(is_segment(unquote(segment)) for segment in parts.path.strip("/").split("/") if parts.path.strip("/")):
        return "a part of its path is empty, `.` or `..`, or has control characters"
    return ""


def join_url(base: str, name: str) -> str:
    """The address of a file below another address. Raises ShardError where the name leads out of it."""
    if not is_name(name):
        raise ShardError(f"{name!r} is not the name of a file below {base}")
    is_web = urlsplit(base).scheme in ("http", "https")
    return f"{base}/{quote(name) if is_web else name}"
