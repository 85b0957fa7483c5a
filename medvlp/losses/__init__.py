"""Losses over the global batch. They take tensors and know nothing of configuration or models."""
