"""Scores of a split's samples: columns for conditions, computed part by part."""
