"""Errors in a text: whether there is one, in which sentence, and what is right."""
