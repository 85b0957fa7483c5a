"""Conversations about one image."""

from medvlp.shards import Turn


def talk(*words):
    """A conversation about one image, of questions and answers in turn."""
    turns = [Turn(("user", "assistant")[i % 2], text) for i, text in enumerate(words)]
    return [Turn("user", "<image>\n" + turns[0].text), *turns[1:]]


LONG = "no fracture is seen and the mediastinum is not widened " * 3
DIALOGUE = talk("Is it large?", "yes", "Where?", "left", LONG, "no", "Why?", "the heart is enlarged")
