"""Folders that other people's libraries open: what is written into them, and the test that they are what they say."""
