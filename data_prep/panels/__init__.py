"""Compound figures: where their panels are, and what their captions say of each."""
