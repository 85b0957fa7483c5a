"""Wording of reason codes: codes are for ledgers and programs, pages are for people."""

WORDS = {
    "answer_mismatch": "the answer is none of the options, or not the one that is named",
    "bad_path": "the name is no path of a file in the folder",
    "bad_quotes": "text follows the quote that closes a cell",
    "bad_row": "the row of the table is malformed",
    "between_blocks": "lies between the blocks of positions that the splits hold",
    "blank_image": "the image is of one colour",
    "broken_image": "the image cannot be decoded",
    "broken_index": "the shard's index is damaged",
    "checksum_mismatch": "the bytes are not those that were written",
    "contradictory_labels": "one image has labels that exclude each other",
    "empty_caption": "the caption has no words",
    "embedded_image": "the image is in the text, not a file",
    "extreme_aspect": "the image is much longer than wide, or wider than long",
    "image_format": "the file is no image that can be read",
    "image_too_large": "the image file is too large",
    "language_not_kept": "in a language that `languages` does not name",
    "licence_not_allowed": "a licence that `licences` does not name",
    "licence_unknown": "no licence is known, and `licences` names some",
    "line_too_long": "a line is longer than is read",
    "little_brain": "the slice shows little of the brain",
    "missing_image": "the image file is not there",
    "no_caption_row": "the publisher's tables do not join it with a caption",
    "no_graphic": "the figure names no graphic",
    "not_histology": "the publisher says that it is no histology",
    "not_one_image": "not one image, which a pair has",
    "not_utf8": "the text is in another encoding, or damaged",
    "open_quote": "a quote that never closes, or that swallows rows",
    "repeated_key": "the key came before",
    "replaced_by_panels": "a figure that was split into its panels",
    "retracted": "the article was retracted",
    "same_id": "an evaluation split has the article or patient",
    "same_perceptual": "an evaluation split has the same picture",
    "same_sha256": "an evaluation split has the image, byte for byte",
    "same_text": "an evaluation split has the text",
    "too_long": "too long",
    "too_many_pixels": "more pixels than `max_pixels`",
    "too_small": "a side shorter than `min_side`",
    "truncated_shard": "the shard ends too early",
    "undecodable_image": "the image cannot be decoded",
    "wordless_caption": "the caption has no words in it, such as None or -",
}


def in_words(code: str) -> str:
    """A reason for people; what has no words of its own is read out."""
    return WORDS.get(code, code.replace("_", " "))
