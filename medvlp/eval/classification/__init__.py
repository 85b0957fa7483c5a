"""Supervised classification: scores of trained heads."""
