"""The ledger of a preparation: what came in, what went out, what was dropped where and why."""

DROPS = "dropped.jsonl"
COPIES = "copies.jsonl"
CONFLICTS = "conflicts.jsonl"
PAIRS = "pairs.json"
RUN = "run.json"
