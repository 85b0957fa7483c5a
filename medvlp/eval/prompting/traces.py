"""What records say of a prompting protocol: the examples of a question, and the votes that its answer stands for."""

from typing import Any

from medvlp.eval.vqa.questions import Question
from medvlp.eval.vqa.responses import Response


def prompting_fields(question: Question, response: Response) -> dict[str, Any]:
    """Fields of a record: `examples`, `samples` and `votes`, `reasonings` and `reasonings_used`, as far as there are any."""
    fields: dict[str, Any] = {}
    if question.examples:
        fields["examples"] = [example.id for example in question.examples]
    if (voted := response.voted) is not None:
        fields |= {"samples": list(voted.samples), "votes": voted.votes}
        if voted.reasonings:
            fields |= {"reasonings": list(voted.reasonings), "reasonings_used": voted.reasonings_used}
    return fields
