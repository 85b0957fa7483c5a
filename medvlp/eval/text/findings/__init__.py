"""Findings that reports state: the words for them, and the rules by which they are read."""
