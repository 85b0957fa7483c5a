"""Questions that cannot be put in another way."""


class NotVaried(ValueError):
    """A question that a control does not ask; its message is the reason, by which such questions are counted."""
