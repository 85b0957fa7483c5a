"""Boxes in images: the one form that shards hold, what a model sees of an image, and how models write boxes."""
