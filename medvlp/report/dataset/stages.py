"""Sentences that say what each stage of a preparation does, for dataset cards and reports."""

from medvlp.report.dataset.contents import Contents

SENTENCES = {
    "read": "Files are read as the publisher released them; rows that cannot become a sample are dropped by name.",
    "clean_text": "Texts are normalised (Unicode NFC, no control characters or direction marks, single blanks).",
    "need_text": "Samples without a caption or conversation are dropped.",
    "licence_gate": "Samples whose licence the policy does not admit, and retracted articles, are dropped.",
    "check_images": "Images that cannot be decoded, are blank, or are outside the limits of size and shape are dropped.",
    "modality": "Where the source names no modality, rules look for one in concepts and captions; unknown stays a value.",
    "split_panels": "Compound figures are cut into panels where picture and caption agree; others stay whole.",
    "language": "The language of texts is detected; languages that are not listed are dropped.",
    "pseudonymise": "Names of files, cases and samples are replaced by keyed pseudonyms.",
    "deidentify_text": "Identifiers of persons in free text are replaced by their kind, such as [DATE].",
    "strip_metadata": "What image files carry besides their pixels (comments, EXIF, XMP, IPTC) is taken out.",
    "deidentify_pixels": "Text burnt into pixels is found by optical character recognition and blacked out.",
    "measure": "Sizes and perceptual hashes are measured; nothing is changed.",
    "describe": "Fingerprints for deduplication are taken; nothing is changed.",
    "split": "Samples are given to splits.",
    "write": "Samples are written to shards, the publisher's bytes wherever no stage had to change them.",
    "duplicates": "Copies of images within the data are looked for by checksum and by picture.",
    "decontaminate": "Samples that evaluation sets hold too are looked for by article, checksum, picture and text.",
}
"""Stage → what it does. Any other is shown by its name alone."""

CHANGING = {
    "clean_text": "text normalised",
    "pseudonymise": "names replaced by pseudonyms",
    "deidentify_text": "identifiers of persons replaced in text",
    "strip_metadata": "metadata of image files taken out",
    "deidentify_pixels": "burnt-in text blacked out where found",
}
"""Stage → the change that it may make to any sample, in the words of an attribution."""

_SPLITS = {
    "publisher": "as the source published them",
    "grouped": "as the source published them, except that every group is whole, in the most held-out of its splits",
    "random": "at random, whole groups at a time",
}


def how_split(contents: Contents) -> str:
    """How samples came to their splits."""
    entry = contents.stage("split") or {"by": "publisher"}
    method = _SPLITS.get(str(entry.get("by")), str(entry.get("by")))
    combinations = [
        ", ".join(f"{field}={'|'.join(map(str, values))}" for field, values in combination.items())
        for combination in entry.get("holdout_by", [])
    ]
    by_combination = (
        f"; samples of {' and of '.join(combinations)} are held out of train, with all of their groups, into "
        f"{entry.get('holdout_to')}"
        if combinations
        else ""
    )
    holdout = (
        f"; then {100 * entry['holdout']:g}% of train's groups, by a hash, became valid" if "holdout" in entry else ""
    )
    return f"Samples are split {method}{by_combination}{holdout}."


def changes_to_all(contents: Contents) -> list[str]:
    """What stages may have changed of any sample."""
    return [words for stage, words in CHANGING.items() if contents.stage(stage) is not None]


def removed_by_stages(contents: Contents) -> list[tuple[str, str, int]]:
    """(stage, kind, how often): what the stages of de-identification took out."""
    return [count for count in contents.stage_counts if count[0].startswith(("deidentify", "strip"))]


def deidentification(contents: Contents) -> list[str]:
    """The stages that take identifying things out, as sentences."""
    names = ("pseudonymise", "strip_metadata", "deidentify_text", "deidentify_pixels")
    return [SENTENCES[name] for name in names if contents.stage(name) is not None]
