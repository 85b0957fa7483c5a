"""Scores of a response: what each of its metrics gives."""

from collections import Counter
from collections.abc import Sequence

from medvlp.eval.vqa import multiple_choice
from medvlp.eval.vqa.llava_med import llava_med_scores
from medvlp.eval.vqa.metrics import MULTIPLE_CHOICE, best_constant, strict_scores
from medvlp.eval.vqa.questions import Question
from medvlp.eval.vqa.responses import Response
from medvlp.eval.vqa.scores import ANSWER_TYPES_OF, CHOICE_METRICS, Scores


def score(question: Question, response: Response) -> Scores:
    """Every metric that the question has."""
    if question.answer_type == MULTIPLE_CHOICE:
        picked = picks(question, response)
        right = {f"{name}_accuracy": float(letter == question.letter) for name, letter in picked.items()}
        return {**right, "unparsed": float(picked["generated"] is None)}
    strict = strict_scores(response.text, question.target, question.answer_type, question.answers)
    return {**strict, **llava_med_scores(response.text, question.target, question.answer_type)}


def picks(question: Question, response: Response) -> dict[str, str | None]:
    """Multiple choice: the letter by each of `PICKS`; None where there is no single one. Without likelihoods, by the others."""
    letters: dict[str, str | None] = {}
    if response.letters:
        sums = {letter: total for letter, (total, _) in response.options.items()}
        counts = {letter: count for letter, (_, count) in response.options.items()}
        letters = {
            "letter_likelihood": multiple_choice.letter_pick(response.letters),
            "mean_likelihood": multiple_choice.mean_likelihood_pick(sums, counts),
            "normalised_likelihood": multiple_choice.normalised_likelihood_pick(sums, question.options),
        }
    return {
        **letters,
        "generated": multiple_choice.match_option(response.text, question.options),
        "most_similar": multiple_choice.most_similar_pick(response.text, question.options),
    }


def constant_scores(questions: Sequence[Question]) -> tuple[list[Scores], dict[str, str]]:
    """The scores of each main metric's own best constant answer on every item, and these answers: for multiple choice
    the commonest right letter, the first in the alphabet of equals."""
    scores: list[Scores] = [{} for _ in questions]
    constants: dict[str, str] = {}
    free = [i for i, question in enumerate(questions) if question.answer_type != MULTIPLE_CHOICE]
    types = {questions[i].answer_type for i in free}
    for metric, answer_types in ANSWER_TYPES_OF.items():
        if not answer_types & types:
            continue
        constants[metric], _ = best_constant(
            [questions[i].target for i in free],
            [questions[i].answer_type for i in free],
            metric,
            [questions[i].answers for i in free],
        )
        for i in free:
            if questions[i].answer_type in answer_types:
                scores[i][metric] = score(questions[i], Response(constants[metric]))[metric]
    letters = Counter(question.letter for question in questions if question.options)
    for metric in CHOICE_METRICS if letters else ():
        constants[metric] = min(letters, key=lambda letter: (-letters[letter], letter))
        for item_scores, question in zip(scores, questions, strict=True):
            if question.options:
                item_scores[metric] = float(question.letter == constants[metric])
    return scores, constants
