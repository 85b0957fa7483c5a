"""Errors put into reports: rules that change one sentence, and the source that applies them."""
