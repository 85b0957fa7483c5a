"""Loader processes."""
