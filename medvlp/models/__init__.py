"""Models: open_clip's own classes, built from names, and where weights come from."""
