"""Facts of an article from outside its XML: a file list, and the metadata next to it, with its digests."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from data_prep.errors import BadRow, NotAFile
from data_prep.readers.fields import Entry
from data_prep.readers.guarded import regular_only
from data_prep.vocabulary.licences import NO_CC, UNKNOWN, normalise

MAX_METADATA_BYTES = 4 * 2**20


@dataclass
class Context:
    """What is known of an article from outside its XML."""

    path: str
    pmc: str
    """PMCID by the name, or by a first look into the file; empty if neither tells."""
    version: int
    statements: dict[str, str]
    """Where a licence is stated ("list", "metadata") → its id."""
    retracted: list[str]
    md5: dict[str, str]
    """File → digest that the publisher gives."""
    ignored: tuple[str, ...] = ()
    """Fields of the metadata that nothing asks for."""


def checked(name: str, data: bytes, context: Context) -> bytes:
    """The data. Raises BadRow md5_mismatch if the publisher's digest is another's."""
    expected = context.md5.get(name)
    if expected and expected != (digest := hashlib.md5(data, usedforsecurity=False).hexdigest()):
        raise BadRow("md5_mismatch", f"{name} has md5 {digest}, the publisher's is {expected}; download it again")
    return data


def context_of(file: Path, path: str, number: int, version: int, list_entry: list[Any] | None) -> Context:
    context = Context(path, f"PMC{number}" if number else "", version, {}, [], {})
    if list_entry:
        context.statements["list"] = list_entry[0]
        context.retracted += ["file list"] if list_entry[1] else []
    for metadata in (file.parent / "metadata" / f"{file.name}.json", file / f"{file.name}.json"):
        if version and os.path.lexists(metadata):
            content = Entry(_read_metadata(metadata))
            _add_metadata(content, context)
            context.ignored = tuple(f"metadata.{name}" for name in content.ignored())
            break
    return context


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb", opener=regular_only) as file:
            data = file.read(MAX_METADATA_BYTES + 1)
        content = json.loads(data) if len(data) <= MAX_METADATA_BYTES else None
    except (ValueError, RecursionError, NotAFile, FileNotFoundError):
        content = None
    if not isinstance(content, dict):  # licence and retraction are in it: without it the article cannot be judged
        raise BadRow("bad_metadata", f"{path.name} is not a JSON object of at most {MAX_METADATA_BYTES} bytes")
    return content


def _add_metadata(content: Entry, context: Context) -> None:
    code, is_open = content.get("license_code"), content.get("is_pmc_openaccess")
    if not code and is_open is False:
        code = NO_CC
    context.statements["metadata"] = normalise(code) if isinstance(code, str) else UNKNOWN
    if content.get("is_retracted") not in (False, None, "no", "false"):
        context.retracted.append("metadata")
    urls = content.get("media_urls")
    for url in [content.get("xml_url"), *(urls if isinstance(urls, list) else [])]:
        # s3://pmc-oa-opendata/PMC1.2/f1.jpg?md5=0123...
        if isinstance(url, str) and (match := re.fullmatch(r".*/([^/?]+)\?(?:.*&)?md5=([0-9A-Fa-f]{32})\b.*", url)):
            context.md5[unquote(match[1])] = match[2].lower()
