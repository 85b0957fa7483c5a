"""Token lengths of a dataset's conversations, measured once for a tokenizer and kept beside the shards."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medvlp.data.chat.encoder import ChatEncoder, Encoded, split_long
from medvlp.shards import BadSample, ShardError, Turn
from medvlp.shards.atomic import write_whole

if TYPE_CHECKING:
    from medvlp.data.chat.examples import Conversations

Indices = NDArray[np.int64]
VERSION = 1
"""Of the table; another one is measured anew."""
DAMAGE = ("broken_index", "checksum_mismatch", "missing_shard", "truncated_shard")
"""Reasons that speak of the disk and not of what was written: such samples count as bad, and do not stop a run."""


@dataclass(frozen=True)
class LeftOut:
    """Something that is not trained on. `conversation`: its id, or its number in the sample; empty for all of it."""

    key: str
    conversation: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Lengths:
    """Pieces of a dataset's conversations, a whole conversation being one piece unless it is too long.

    rows, conversations, pieces: which part of which conversation of which sample (piece -1: all of it).
    tokens: of the piece; supervised: those that are trained on; shared: tokens that it has in common with all pieces of
    its sample, from the beginning.
    left_out: conversations too long to fit, and samples that are damaged.
    faults: what is wrong with the data, for people to mend.
    """

    rows: Indices
    conversations: Indices
    pieces: Indices
    tokens: Indices
    supervised: Indices
    shared: Indices
    left_out: list[LeftOut]
    faults: list[LeftOut]


COLUMNS = ("rows", "conversations", "pieces", "tokens", "supervised", "shared")


def measure(
    dataset: "Conversations",
    encoder: ChatEncoder,
    max_length: int,
    too_long: str,
    beginning: Callable[[Sequence[Encoded]], int],
    rows: Iterable[int] | None = None,
) -> Lengths:
    """Encode every conversation, or those of some rows.

    Args:
        too_long: "split" at turns, or "drop" the conversation.
        beginning: tokens that conversations share; see `packing.shared_prefix`.
    """
    table: dict[str, list[int]] = {name: [] for name in COLUMNS}
    left_out: list[LeftOut] = []
    faults: list[LeftOut] = []
    for row in range(len(dataset)) if rows is None else rows:
        try:
            sample = dataset.read(row)
        except BadSample as bad:
            page = left_out if bad.reason in DAMAGE else faults
            page.append(LeftOut(dataset.key(row), "", bad.reason, bad.detail))
            continue
        if not sample.conversations:
            faults.append(LeftOut(sample.key, "", "no_conversation", "the sample has no conversations to train on"))
        found: list[tuple[int, int, Encoded]] = []
        for number, conversation in enumerate(sample.conversations):
            name = conversation.id or str(number)
            try:
                whole = encoder.encode(conversation.turns, len(sample.images))
                if len(whole.ids) <= max_length:
                    found.append((number, -1, whole))
                    continue
                pieces: list[list[Turn]] = []
                if too_long == "split":
                    pieces, _ = split_long(conversation.turns, len(sample.images), encoder, max_length)
                found += [(number, i, encoder.encode(p, len(sample.images))) for i, p in enumerate(pieces)]
                kept = sum(sum(turn.role == "assistant" for turn in piece) for piece in pieces)
                lost = sum(turn.role == "assistant" for turn in conversation.turns) - kept
                if lost:
                    detail = f"{len(whole.ids)} tokens, objective.max_length={max_length}; {lost} answers are left out"
                    left_out.append(LeftOut(sample.key, name, "too_long", detail))
            except BadSample as bad:
                faults.append(LeftOut(sample.key, name, bad.reason, bad.detail))
        shared = beginning([one for _, _, one in found])
        for number, piece, one in found:
            values = (row, number, piece, len(one.ids), int(one.supervised.sum()), shared)
            for column, value in zip(COLUMNS, values, strict=True):
                table[column].append(value)
    arrays = {name: np.array(values, np.int64) for name, values in table.items()}
    return Lengths(**arrays, left_out=left_out, faults=faults)


def measured(
    dataset: "Conversations",
    encoder: ChatEncoder,
    max_length: int,
    too_long: str,
    beginning: Callable[[Sequence[Encoded]], int],
    identity: str,
) -> Lengths:
    """`measure`, kept in a file beside the shards that is named after all that the lengths depend on. A file that is there
    is believed where it is right of some rows.

    Args:
        identity: of the encoder: equal ones give equal tokens.
    """
    what = [VERSION, dataset.manifest_hash, identity, max_length, too_long]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    path = dataset.folder / f".lengths-{digest}.npz"
    if path.is_file():
        kept: Lengths | None = None
        with suppress(Exception):  # damaged, for which zip archives have many errors: measure anew
            kept = _load(path, len(dataset))
        if kept is not None:
            chosen = _sampled(kept, len(dataset))
            keys = {dataset.key(row) for row in chosen}
            again = measure(dataset, encoder, max_length, too_long, beginning, chosen)
            if _part(kept, chosen, keys) == _part(again, chosen, keys):
                return kept
        print(
            f"note: {path} does not hold the token lengths of these conversations; they are measured anew", flush=True
        )
    lengths = measure(dataset, encoder, max_length, too_long, beginning)
    buffer = io.BytesIO()
    notes = {name: json.dumps([asdict(one) for one in getattr(lengths, name)]) for name in ("left_out", "faults")}
    columns = {name: getattr(lengths, name) for name in COLUMNS}
    np.savez_compressed(buffer, allow_pickle=False, **columns, **notes)
    try:
        write_whole(path, buffer.getvalue())
    except ShardError as error:
        print(f"note: token lengths are measured anew in each run: {error}", flush=True)
    return lengths


SAMPLED = 2
"""Rows of a kept table that are measured again, of those that have pieces and of those that have none."""


def _sampled(lengths: Lengths, samples: int) -> list[int]:
    whole = np.unique(lengths.rows)
    groups = (whole, np.setdiff1d(np.arange(samples), whole))
    positions = [(rows, np.linspace(0, len(rows) - 1, SAMPLED).astype(int)) for rows in groups if len(rows)]
    return sorted({int(row) for rows, chosen in positions for row in rows[chosen]})


def _part(lengths: Lengths, rows: Sequence[int], keys: Set[str]) -> tuple[list[list[int]], list[LeftOut]]:
    """What a table says of some rows."""
    mine = np.isin(lengths.rows, rows)
    columns = [getattr(lengths, name)[mine].tolist() for name in COLUMNS]
    return columns, [one for one in (*lengths.left_out, *lengths.faults) if one.key in keys]


def _load(path: Path, samples: int) -> Lengths:
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[name].astype(np.int64) for name in COLUMNS}
        notes = {name: [LeftOut(**one) for one in json.loads(str(file[name]))] for name in ("left_out", "faults")}
    lengths = {len(column) for column in columns.values()}
    negative = any((column < 0).any() for name, column in columns.items() if name != "pieces")
    if len(lengths) != 1 or negative or (columns["rows"] >= samples).any():
        raise ValueError("not a table of this dataset")
    return Lengths(**columns, left_out=notes["left_out"], faults=notes["faults"])
