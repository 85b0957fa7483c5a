"""Views of a split: its shards without what is not trained on."""
