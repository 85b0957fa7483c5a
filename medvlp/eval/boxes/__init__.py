"""Boxes that models write: where an answer says them, and how they are compared with the right ones."""
