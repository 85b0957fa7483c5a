"""Tars that others wrote, as they are: an index, a table and a manifest next to them or elsewhere make them trainable."""
