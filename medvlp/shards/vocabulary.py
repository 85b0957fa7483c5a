"""Words that every reader and writer of samples shares."""

from __future__ import annotations

IMAGE_TOKEN = "<image>"
"""Stands in a user's turn for one image of the sample."""

BOX_TOKEN = "<box>"
"""Stands in a turn for the next box of the conversation's metadata "boxes"."""

CLOSED, OPEN, MULTIPLE_CHOICE, NUMBER, SET, BOXES = ("closed", "open", "multiple_choice", "number", "set", "boxes")
ANSWER_TYPES = (CLOSED, OPEN, MULTIPLE_CHOICE, NUMBER, SET, BOXES)
"""A conversation's metadata "answer_type": yes or no, free text, some of the options, a number, a set of items, boxes."""

NUMBER_TYPES = ("decimal", "integer", "date", "weeks")
"""A conversation's metadata "number_type", of answers that are numbers; weeks: a gestational age, "36 weeks, 4 days"."""

SPLITS = ("train", "valid", "test")
"""From what is trained on to what is held out."""
QUERY, DOCUMENT = RETRIEVAL_ROLES = ("query", "document")
"""In metadata under `role`, of samples that are made for retrieval: what is asked, and what is looked for."""
