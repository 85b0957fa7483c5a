"""What stood in front of an answer, of prompting protocols: examples, reasons, the samples of a vote."""

from pathlib import Path

from medvlp.report.files import Row
from medvlp.report.run.galleries import clipped_text
from medvlp.report.shapes import COUNT, TEXT, list_of, mapping_of
from medvlp.report.thumbnails import Thumbnails
from medvlp.shards import Conversation, Sample
from medvlp.shards.vocabulary import IMAGE_TOKEN

CHARACTERS = 700
"""Of an example, a sample or a reason on a page; the rest of a longer one is left out, and dots say so."""
RECORD = {
    "examples": list_of(TEXT),
    "samples": list_of(TEXT),
    "votes": mapping_of(COUNT),
    "reasonings": list_of(TEXT),
    "reasonings_used": COUNT,
    "reasoning": TEXT,
}
"""What a record of such a protocol has besides."""


class ExampleTexts:
    """The examples of a task's prompts by name, as texts. They are of another split of the task's folder.

    Args:
        protocol: the task's; its `prompting` names the split and its content.
    """

    def __init__(self, protocol: Row) -> None:
        prompting = protocol.get("prompting")
        prompting = prompting if isinstance(prompting, dict) else {}
        self.samples: Thumbnails | None = None
        split, folder = prompting.get("split"), protocol.get("data")
        if isinstance(split, str) and isinstance(folder, str) and Path(split).name == split != "..":
            self.samples = Thumbnails(str(Path(folder).parent / split), str(prompting.get("examples_hash", "")), None)

    def of(self, name: str) -> str:
        """Question and answer; the name alone where the split is not here, or has changed."""
        key, _, conversation = name.partition("#")  # keys hold no #
        sample = self.samples.text_of(key) if self.samples and not self.samples.problem else None
        text = _pair(sample, conversation) if sample else ""
        return clipped_text(f"{name}\n{text}" if text else name, CHARACTERS)


def voting_words(record: Row) -> list[tuple[str, str]]:
    """(heading, text) of a vote."""
    if "votes" not in record:
        return []
    votes = ", ".join(f"{answer}: {count}" for answer, count in record["votes"].items())
    return [("Votes", votes or "none: no sample has an answer that can be read")]


def folded_prompting(record: Row, examples: ExampleTexts) -> list[tuple[str, list[str]]]:
    """(heading, texts) of all that a reader may want to open."""
    parts = []
    if names := record.get("examples"):
        parts.append((f"{_count(names, 'example')} in the prompt", [examples.of(name) for name in names]))
    if reasonings := record.get("reasonings"):
        used = record.get("reasonings_used", len(reasonings))
        parts.append((f"{_count(reasonings, 'first attempt')}, {used} of them shown to the refining", reasonings))
    if samples := record.get("samples"):
        parts.append((_count(samples, "sample"), samples))
    if reasoning := record.get("reasoning"):
        parts.append(("Reasoning", [reasoning]))
    return [(heading, [clipped_text(text or "(nothing)", CHARACTERS) for text in texts]) for heading, texts in parts]


def _pair(sample: Sample, name: str) -> str:
    """Question and answer of the conversation of a name (its id, else its number)."""
    conversations = {str(item.id or number): item for number, item in enumerate(sample.conversations)}
    if name not in conversations:
        return "\n".join(sample.texts.values())
    return "\n".join(_turns(conversations[name]))


def _turns(conversation: Conversation) -> list[str]:
    return [turn.text.replace(IMAGE_TOKEN, "").strip() for turn in conversation.turns if turn.role != "system"]


def _count(texts: list[str], noun: str) -> str:
    return f"{len(texts)} {noun}{'' if len(texts) == 1 else 's'}"
