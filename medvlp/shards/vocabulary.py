"""Words that every reader and writer of samples shares."""

from __future__ import annotations

IMAGE_TOKEN = "<image>"
"""Stands in a user's turn for one image of the sample."""

ANSWER_TYPES = ("closed", "open", "multiple_choice")
"""A conversation's metadata "answer_type": yes or no, free text, one of the options."""

SPLITS = ("train", "valid", "test")
"""From what is trained on to what is held out."""
