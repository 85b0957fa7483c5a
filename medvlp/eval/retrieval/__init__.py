"""Retrieval: images and texts by each other, texts by texts, images by an image with a text."""
