"""Items that belong together, such as a question and its denial (ProbMed), or one question about two images (MediConfusion)."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any

PAIR_ID = "pair_id"
"""Field of a question's metadata: items with the same one are a pair (or more than two)."""
PARTNER_LOST = "partner_lost"
"""Key of a record whose pair has lost an item."""
PAIR_ACCURACY, PAIR_CONFUSION = "pair_accuracy", "pair_confusion"


def pair_columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Metric → its value of each record of a vqa task; the first record of a pair has the pair's, all others None.

    pair_accuracy: 1 where every item of the pair is right (its score is 1): ProbMed's accuracy, MediConfusion's set accuracy.
    pair_confusion: 1 where all items of the pair pick the same option, over pairs of multiple choice with equal options of which
    every answer can be read, as MediConfusion counts it. Items whose partners are not among the records are no pair, and those of
    which one was lost (`without_partner`) are none either.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        if (pair := record.get("fields", {}).get(PAIR_ID)) is not None:
            members[str(pair)].append(row)
    pairs = {
        rows[0]: rows
        for rows in members.values()
        if len(rows) > 1 and not any(records[row].get(PARTNER_LOST) for row in rows)
    }
    if not pairs:
        return {}
    accuracy: list[float | None] = [None] * len(records)
    confusion: list[float | None] = [None] * len(records)
    for first, rows in pairs.items():
        accuracy[first] = float(all(records[row]["score"] == 1 for row in rows))
        options = [records[row].get("options") for row in rows]
        if options[0] and all(of_item == options[0] for of_item in options):
            picks = {_pick(records[row]) for row in rows}
            confusion[first] = None if None in picks else float(len(picks) == 1)
    columns = {PAIR_ACCURACY: accuracy, PAIR_CONFUSION: confusion}
    return {name: column for name, column in columns.items() if any(value is not None for value in column)}


def pair_notes(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a protocol says of pairs: how many there are, the items whose partners were not asked (excluded, cut off by a limit,
    not taken), and the groups of three or more that have lost one, which count in no metric of pairs."""
    sizes = Counter(str(pair) for record in records if (pair := record["fields"].get(PAIR_ID)) is not None)
    if not sizes:
        return {}
    lost = {str(record["fields"][PAIR_ID]) for record in records if record.get(PARTNER_LOST)}
    complete = sum(size > 1 and pair not in lost for pair, size in sizes.items())
    counts = {"pairs": complete, "items_without_partner": sum(size == 1 for size in sizes.values())}
    incomplete = len(sizes) - complete - counts["items_without_partner"]
    return {"pairs": counts | ({"pairs_with_lost_items": incomplete} if incomplete else {})}


def without_partner(records: Sequence[dict[str, Any]], lost: Set[str]) -> list[dict[str, Any]]:
    """Records, those marked (`partner_lost`) whose pair is among the ones of which an item is not among the records."""
    return [
        record | {PARTNER_LOST: True} if str(record["fields"].get(PAIR_ID)) in lost else record for record in records
    ]


def _pick(record: Mapping[str, Any]) -> str | None:
    """The option that decides an item's score: the one that the response names, or the first of the likelihoods'."""
    picks = record["picks"]
    pick = picks["generated"] if "generated" in picks else next(iter(picks.values()), None)
    return None if pick is None else str(pick)
