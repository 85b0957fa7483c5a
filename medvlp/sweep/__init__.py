"""Sweeps: models × tasks in cells that are measured once, kept by content, and joined into one folder of results."""
