"""Samples rewritten as they are read: captions as answers, questions and answers in other words."""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Union

from medvlp.data.chat.templates import split_thought
from medvlp.data.texts import texts_of
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN, MULTIPLE_CHOICE
from medvlp.wording.questions import QuestionWording, stated_options

ConversationDataset = Union[ShardDataset, "RewrittenDataset"]
"""Samples with conversations, by row."""


class RewrittenDataset:
    """A dataset whose samples are changed as they are read. Its identity is the shards' and that of the change."""

    def __init__(self, dataset: "ConversationDataset", change: object) -> None:
        self.dataset = dataset
        self.folder: Path = dataset.folder
        self.shards_hash: str = dataset.shards_hash
        material = json.dumps([dataset.manifest_hash, change]).encode()
        self.manifest_hash: str = hashlib.sha256(material).hexdigest()
        self.key: Callable[[int], str] = dataset.key
        self.locate: Callable[[int], tuple[str, int]] = dataset.locate

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, i: int) -> Sample:
        """Sample i, changed."""
        return self.change(self.dataset.read(i))

    def change(self, sample: Sample) -> Sample:
        """The sample, or another in its place."""
        return sample


class CaptionQuestions(RewrittenDataset):
    """Captions as answers: samples without conversations get one from each of their texts.

    The question is one of several, chosen by the sample's key and the text's field, so it is the same in every epoch.

    Args:
        dataset: the shards.
        fields: texts to ask for.
        questions: what to ask, without placeholders.
    """

    def __init__(self, dataset: "ConversationDataset", fields: Sequence[str], questions: Sequence[str]) -> None:
        super().__init__(dataset, ["asked", list(fields), list(questions)])
        self.fields, self.questions = list(fields), list(questions)

    def change(self, sample: Sample) -> Sample:
        """With conversations."""
        if sample.conversations:
            return sample
        images = "".join(f"{IMAGE_TOKEN}\n" for _ in sample.images)
        conversations = []
        for name, text in texts_of(sample, self.fields).items():
            digest = hashlib.sha256(f"{sample.key}\0{name}".encode()).digest()
            question = self.questions[int.from_bytes(digest[:8], "little") % len(self.questions)]
            conversations.append(Conversation([Turn("user", images + question), Turn("assistant", text)], name))
        return replace(sample, conversations=conversations)


class RewordedConversations(RewrittenDataset):
    """Questions and answers in other words, from what is known of each conversation: a rationale before or after the
    answer (MedThink).

    Args:
        dataset: the shards.
        question, answer: what the last question and the last answer become; `{question}` and `{answer}` stand for
            themselves, `{<name>}` for a field of the conversation's metadata; numbers are written with two decimals.
            Empty leaves it as it is.
    """

    def __init__(self, dataset: "ConversationDataset", question: str, answer: str) -> None:
        super().__init__(dataset, ["worded", question, answer])
        self.question, self.answer = question, answer

    def change(self, sample: Sample) -> Sample:
        """With the last pair of every conversation in other words.

        Raises:
            BadSample: `missing_field`, where a conversation lacks what a wording names.
        """
        conversations = [self._reworded(sample.key, conversation) for conversation in sample.conversations]
        return replace(sample, conversations=conversations)

    def _reworded(self, key: str, conversation: Conversation) -> Conversation:
        *history, user_turn, assistant_turn = conversation.turns
        placeholders, question = "", user_turn.text
        while question.startswith(IMAGE_TOKEN):
            placeholders, question = placeholders + IMAGE_TOKEN + "\n", question.removeprefix(IMAGE_TOKEN).lstrip("\n")
        values = {**conversation.metadata, "question": question, "answer": assistant_turn.text}

        def fill(match: re.Match[str]) -> str:
            if match[1] not in values:
                detail = f"conversation {conversation.id}: no {match[1]!r} in its metadata"
                raise BadSample("missing_field", key=key, detail=detail)
            return value_text(values[match[1]])

        question = re.sub(FIELD, fill, self.question or "{question}")
        answer = re.sub(FIELD, fill, self.answer or "{answer}")
        turns = [
            *history,
            Turn(user_turn.role, placeholders + question),
            Turn(assistant_turn.role, answer),
        ]
        return replace(conversation, turns=turns)


class TaskQuestions(RewrittenDataset):
    """Questions in the words in which a task asks them, and answers as it wants them.

    Questions of multiple choice get their options, and a letter as their answer (or several), or the option's text where the
    task asks for a text; all others get the task's instruction. Thoughts before an answer stay.
    """

    def __init__(self, dataset: "ConversationDataset", wording: QuestionWording) -> None:
        choice = wording.choice
        words = [wording.instruction, choice.answered, dict(choice.prompts), choice.option_line]
        super().__init__(dataset, ["as in a task", *words])
        self.wording = wording

    def change(self, sample: Sample) -> Sample:
        """With the last pair of every conversation in the task's words.

        Raises:
            BadSample: `incomplete_options`, where a question of multiple choice lacks options or the right one.
        """
        conversations = [self._worded(sample.key, conversation) for conversation in sample.conversations]
        return replace(sample, conversations=conversations)

    def _worded(self, key: str, conversation: Conversation) -> Conversation:
        *history, user_turn, assistant_turn = conversation.turns
        answer = assistant_turn.text
        options: dict[str, str] = {}
        if conversation.metadata.get("answer_type") == MULTIPLE_CHOICE:
            options, letters = stated_options(conversation.metadata)
            if not letters:
                detail = f"conversation {conversation.id}: no options, or no right one among them"
                raise BadSample("incomplete_options", key=key, detail=detail)
            thought = answer[: len(answer) - len(split_thought(answer)[1])]
            answer = thought + self.wording.answer(options, letters)
        question = self.wording.question(user_turn.text, options)
        return replace(
            conversation, turns=[*history, Turn(user_turn.role, question), Turn(assistant_turn.role, answer)]
        )


FIELD = re.compile(r"\{(\w+)\}")


def value_text(value: object) -> str:
    """A metadata value as text: numbers with two decimals, lists in brackets."""
    if isinstance(value, list):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
