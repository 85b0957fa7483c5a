"""The licence gate: samples go on only under licences that were asked for."""

from __future__ import annotations

from data_prep.draft import Draft, Drop
from data_prep.vocabulary.licences import UNKNOWN, allows, check_allow, normalise


def licence_gate(draft: Draft, allow: list[str], allow_retracted: bool = False) -> Draft:
    """Drop what the policy does not admit: licence_not_allowed, licence_unknown, retracted.

    allow: ids or families; an empty list admits every licence, and unknown ones too. Counts say how many samples
    came under which licence.
    """
    check_allow(allow)
    metadata = draft.sample.metadata
    licence = normalise(str(metadata.get("licence") or ""))
    # A LicenseRef is the publisher's own wording, which counts must not hold.
    counted_as = "LicenseRef" if licence.startswith("LicenseRef-") else licence
    if metadata.get("retracted") and not allow_retracted:
        draft.count("licence_gate", "retracted")
        raise Drop("licence_gate", "retracted", f"the article {metadata.get('article', '')} is retracted")
    if allow and licence == UNKNOWN:
        draft.count("licence_gate", "not allowed: unknown")
        raise Drop(
            "licence_gate", "licence_unknown", "no licence that can be read, and licences names which are let through"
        )
    if allow and licence != UNKNOWN and not allows(allow, licence):
        draft.count("licence_gate", f"not allowed: {counted_as}")
        raise Drop("licence_gate", "licence_not_allowed", f"{licence}; allowed are {', '.join(allow)}")
    draft.count("licence_gate", f"kept: {counted_as}")
    return draft
