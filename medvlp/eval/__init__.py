"""Evaluation: encode a dataset once, measure it with stated protocols, leave one record an item."""
