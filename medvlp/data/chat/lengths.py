"""Token lengths of a dataset's conversations, measured once for a tokenizer and cached next to the shards."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medvlp.data.chat.encoder import ChatEncoder, Encoded
from medvlp.data.chat.packing import shared_prefix
from medvlp.data.chat.rewriting import ConversationDataset
from medvlp.data.chat.splitting import split_long
from medvlp.shards import BadSample, ShardError, Turn
from medvlp.shards.atomic import write_whole

Indices = NDArray[np.int64]
VERSION = 1
"""Of the table; another one is measured again."""
DAMAGE = ("broken_index", "checksum_mismatch", "missing_shard", "truncated_shard")
"""Reasons that speak of the disk and not of what was written: such samples count as bad, and do not stop a run."""
SKIPPED = (*DAMAGE, "box_not_seen")
"""Reasons for which a sample is skipped and named: those, and a box that the processor's crop cuts away."""


@dataclass(frozen=True)
class Untrainable:
    """What is not trained on. `conversation`: its id, or its number in the sample; empty for all of the sample."""

    key: str
    conversation: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Lengths:
    """Pieces of a dataset's conversations, a whole conversation being one piece unless it is too long.

    rows, conversations, pieces: which part of which conversation of which sample (piece -1: all of it).
    tokens: of the piece; supervised: those that are trained on; shared_prefix: those that all pieces of its sample begin with.
    skipped: conversations too long to fit, and samples that are damaged.
    faults: what is wrong with the data, for people to fix.
    """

    rows: Indices
    conversations: Indices
    pieces: Indices
    tokens: Indices
    supervised: Indices
    shared_prefix: Indices
    skipped: list[Untrainable]
    faults: list[Untrainable]


COLUMNS = {
    "rows": "rows",
    "conversations": "conversations",
    "pieces": "pieces",
    "tokens": "tokens",
    "supervised": "supervised",
    "shared_prefix": "shared",
}
"""Arrays of `Lengths` → names in the file."""
NOTES = {"skipped": "left_out", "faults": "faults"}
"""Lists of `Lengths` → names in the file."""


def measure_lengths(
    dataset: ConversationDataset,
    encoder: ChatEncoder,
    max_length: int,
    too_long: str,
    rows: Iterable[int] | None = None,
) -> Lengths:
    """Encode every conversation, or those of some rows.

    Args:
        too_long: "split" at turns, or "drop" the conversation.
    """
    table: dict[str, list[int]] = {name: [] for name in COLUMNS}
    skipped: list[Untrainable] = []
    faults: list[Untrainable] = []
    for row in range(len(dataset)) if rows is None else rows:
        try:
            sample = dataset.read(row)
        except BadSample as bad:
            notes = skipped if bad.reason in SKIPPED else faults
            notes.append(Untrainable(dataset.key(row), "", bad.reason, bad.detail))
            continue
        if not sample.conversations:
            faults.append(Untrainable(sample.key, "", "no_conversation", "the sample has no conversations to train on"))
        encoded: list[tuple[int, int, Encoded]] = []
        for number, conversation in enumerate(sample.conversations):
            name = conversation.id or str(number)
            try:
                full = encoder.encode(conversation.turns, len(sample.images))
                if len(full.ids) <= max_length:
                    encoded.append((number, -1, full))
                    continue
                pieces: list[list[Turn]] = []
                if too_long == "split":
                    pieces, _ = split_long(conversation.turns, len(sample.images), encoder, max_length)
                encoded += [(number, i, encoder.encode(p, len(sample.images))) for i, p in enumerate(pieces)]
                answers = sum(sum(turn.role == "assistant" for turn in piece) for piece in pieces)
                lost = sum(turn.role == "assistant" for turn in conversation.turns) - answers
                if lost:
                    detail = f"{len(full.ids)} tokens, objective.max_length={max_length}; {lost} answers are left out"
                    skipped.append(Untrainable(sample.key, name, "too_long", detail))
            except BadSample as bad:
                faults.append(Untrainable(sample.key, name, bad.reason, bad.detail))
        prefix = shared_prefix([piece for _, _, piece in encoded])
        for number, index, piece in encoded:
            values = (row, number, index, len(piece.ids), int(piece.supervised.sum()), prefix)
            for column, value in zip(COLUMNS, values, strict=True):
                table[column].append(value)
    arrays = {name: np.array(values, np.int64) for name, values in table.items()}
    return Lengths(**arrays, skipped=skipped, faults=faults)


def cached_lengths(
    dataset: ConversationDataset, encoder: ChatEncoder, max_length: int, too_long: str, identity: str
) -> Lengths:
    """`measure_lengths`, cached in a file next to the shards that is named after all that the lengths depend on. A file
    is believed where it is right of some rows.

    Args:
        identity: of the encoder: equal ones give equal tokens.
    """
    parts = [VERSION, dataset.manifest_hash, identity, max_length, too_long]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    path = dataset.folder / f".lengths-{digest}.npz"
    if path.is_file():
        cached: Lengths | None = None
        with suppress(Exception):  # damaged, for which zip archives have many errors: measure again
            cached = _load(path, len(dataset))
        if cached is not None:
            rows = _sampled(cached, len(dataset))
            keys = {dataset.key(row) for row in rows}
            remeasured = measure_lengths(dataset, encoder, max_length, too_long, rows)
            if _part(cached, rows, keys) == _part(remeasured, rows, keys):
                return cached
        print(
            f"note: {path} does not hold the token lengths of these conversations; they are measured again", flush=True
        )
    lengths = measure_lengths(dataset, encoder, max_length, too_long)
    buffer = io.BytesIO()
    notes = {column: json.dumps([asdict(note) for note in getattr(lengths, name)]) for name, column in NOTES.items()}
    columns = {column: getattr(lengths, name) for name, column in COLUMNS.items()}
    np.savez_compressed(buffer, allow_pickle=False, **columns, **notes)
    try:
        write_whole(path, buffer.getvalue())
    except ShardError as error:
        print(f"note: token lengths are measured again in each run: {error}", flush=True)
    return lengths


SAMPLED = 2
"""Rows of a cached table that are measured again, of those that have pieces and of those that have none."""


def _sampled(lengths: Lengths, samples: int) -> list[int]:
    with_pieces = np.unique(lengths.rows)
    groups = (with_pieces, np.setdiff1d(np.arange(samples), with_pieces))
    positions = [(rows, np.linspace(0, len(rows) - 1, SAMPLED).astype(int)) for rows in groups if len(rows)]
    return sorted({int(row) for rows, indices in positions for row in rows[indices]})


def _part(lengths: Lengths, rows: Sequence[int], keys: Set[str]) -> tuple[list[list[int]], list[Untrainable]]:
    """What a table says of some rows."""
    is_part = np.isin(lengths.rows, rows)
    columns = [getattr(lengths, name)[is_part].tolist() for name in COLUMNS]
    return columns, [note for note in (*lengths.skipped, *lengths.faults) if note.key in keys]


def _load(path: Path, samples: int) -> Lengths:
    with np.load(path, allow_pickle=False) as file:
        columns = {name: file[column].astype(np.int64) for name, column in COLUMNS.items()}
        notes = {
            name: [Untrainable(**fields) for fields in json.loads(str(file[column]))] for name, column in NOTES.items()
        }
    sizes = {len(column) for column in columns.values()}
    negative = any((column < 0).any() for name, column in columns.items() if name != "pieces")
    if len(sizes) != 1 or negative or (columns["rows"] >= samples).any():
        raise ValueError("not a table of this dataset")
    return Lengths(**columns, skipped=notes["skipped"], faults=notes["faults"])
