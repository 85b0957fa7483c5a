"""Names of files, cases and samples replaced by pseudonyms, for sources that may hold private data."""

from __future__ import annotations

from functools import lru_cache

from data_prep.deidentify.pseudonym import key_id as id_of
from data_prep.deidentify.pseudonym import load_key, pseudonym
from data_prep.draft import Draft, Drop
from data_prep.errors import PrepError
from medvlp.shards import make_key

ALLOWED_METADATA = frozenset(
    (
        *("source", "licence", "licence_url", "modality", "group_kind", "language", "published_split", "kind"),
        *("organ", "body_part", "dicom_modality", "reencoded_from", "rendered", "retracted"),
    )
)
"""Metadata that say nothing of a person; the rest is dropped."""

STAGES_WITH_SAFE_DETAILS = frozenset(("check_images", "licence_gate", "split_panels"))
"""Stages whose details describe pixels or policies, and never quote the source."""


def pseudonymise(draft: Draft, key_id: str) -> Draft:
    """Key, group and original name as pseudonyms; of the other metadata only what says nothing of a person.

    A published article keeps its names: its authors have to be credited, and its files are named after it.
    """
    key = _key(key_id)
    draft.is_renamed = True
    sample = draft.sample
    metadata = sample.metadata
    if metadata.get("article"):
        draft.count("pseudonymise", "published works left as they are")
        return draft
    kept_metadata = {name: value for name, value in metadata.items() if name in ALLOWED_METADATA}
    skipped = len(metadata.keys() - kept_metadata.keys() - {"group", "original_name"})
    draft.count("pseudonymise", "metadata fields left out", skipped)
    draft.count("pseudonymise", "samples renamed")
    group = pseudonym(key, f"group:{metadata.get('group') or sample.key}")
    sample.metadata = {**kept_metadata, "group": group, "original_name": pseudonym(key, f"name:{draft.name}")}
    sample.key = make_key(str(metadata.get("source", "private")), group, pseudonym(key, f"key:{sample.key}"))
    for conversation in sample.conversations:
        if conversation.id is not None:
            conversation.id = pseudonym(key, f"question:{conversation.id}")
    return draft


def pseudonymised_drop(drop: Drop, key_id: str) -> Drop:
    """A drop as the ledger may name it."""
    renamed = Drop(drop.stage, drop.reason, drop.detail if drop.stage in STAGES_WITH_SAFE_DETAILS else "")
    renamed.name = drop.name if drop.is_renamed else pseudonym(_key(key_id), f"name:{drop.name}")
    return renamed


@lru_cache(maxsize=1)
def _key(key_id: str) -> bytes:
    """The key, which has to be the one that the preparation was planned with. Raises PrepError."""
    key = load_key(None)
    if id_of(key) != key_id:
        raise PrepError(
            f"the key for pseudonyms here is {id_of(key)}, the preparation was begun with {key_id}; "
            "set MEDVLP_DEID_KEY to the same key on every machine"
        )
    return key
