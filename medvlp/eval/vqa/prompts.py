"""What a protocol says of the prompts of multiple choice."""

from collections.abc import Sequence
from typing import Any

from medvlp.wording.questions import ChoicePrompts


def choice_protocol(choice: ChoicePrompts, questions: Sequence[Any]) -> dict[str, Any]:
    """What a protocol says of multiple choice: each scorer's prompt of the first such question, and how many questions have
    several right options, which likelihoods do not score."""
    with_options = [question for question in questions if question.options]
    if not with_options:
        return {}
    prompts = {scorer: turns[-1].text for scorer, turns in with_options[0].prompts.items()}
    count = sum(len(question.letters) > 1 for question in with_options)
    note = {"several_right": f"{count} questions; likelihoods, which pick one option, are of the others"}
    return {"choice_prompts": prompts, **(note if count else {})}
