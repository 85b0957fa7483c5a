"""Reliability: the same questions asked in another way, and items that belong together."""
