"""Classifiers: an image tower under linear heads."""
