"""Deduplication over all samples: copies inside a data set, and samples that are in an evaluation set."""
