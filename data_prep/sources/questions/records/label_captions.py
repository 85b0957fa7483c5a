"""Captions that templates make of a sample's label: what is present is named, and a label is never printed as Python."""

from __future__ import annotations

from data_prep.draft import Counts
from data_prep.readers.tables.label_cells import present_classes
from medvlp.shards import Sample
from medvlp.wording.label_captions import NoCaption, Templates, fold, with_article


def label_captions(templates: Templates, sample: Sample, label: str, counts: Counts) -> list[str]:
    """Captions of the classes that are present; next to findings, a class that says there are none is not named.

    Where none is present, or the templates have no words for it, one caption that names the subject alone; counted.
    """
    if label not in sample.labels:
        return []
    classes = present_classes(sample.labels[label], sample.labels.get(f"{label}_weights"))
    findings = [name for name in classes if fold(name) not in templates.normal_labels]
    try:
        if classes:
            return templates.captions(findings or classes, sample.key)
    except NoCaption as bad:
        counts["read", f"labels without a caption: {bad.reason}"] += 1
    counts["read", "captions that name no finding"] += 1
    subject = (templates.fields or {}).get("subject", "image")
    return [with_article(subject)]
