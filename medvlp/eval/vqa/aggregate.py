"""Scores of a response: what each of its metrics gives."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medvlp.eval.answers import Extraction, extract_choice, extract_number, extract_set, extract_text, extract_yes_no
from medvlp.eval.answers.extraction import REFUSAL
from medvlp.eval.answers.patterns.languages import MEANINGS
from medvlp.eval.answers.targets import best_number, best_set, partial_credit, set_scores
from medvlp.eval.boxes.extraction import extract_boxes
from medvlp.eval.boxes.scores import MAIN as BOX_METRICS
from medvlp.eval.boxes.scores import best_constant_box, box_scores
from medvlp.eval.vqa import multiple_choice
from medvlp.eval.vqa.llava_med import llava_med_scores
from medvlp.eval.vqa.metrics import (
    BOXES,
    CLOSED,
    MULTIPLE_CHOICE,
    NUMBER,
    SET,
    asks_yes_no,
    best_constant,
    strict_scores,
)
from medvlp.eval.vqa.questions import Question
from medvlp.eval.vqa.responses import Response, response_of
from medvlp.eval.vqa.scores import ANSWER_TYPES_OF, CHOICE_METRICS, PARTIAL_CREDIT, Scores
from medvlp.wording.questions import GENERATED, SIMILAR


def extraction_of(question: Question, text: str) -> Extraction:
    """What a reply to a question comes to, by the question's kind."""
    if question.options:
        return extract_choice(text, question.options, len(question.letters) > 1, question.text)
    if question.number:
        return extract_number(text, question.number.number_type)
    if question.answer_type == SET:
        return extract_set(text, question.items)
    if question.boxes:
        return extract_boxes(text, question.boxes.form, question.boxes.view)
    if question.answer_type == CLOSED and any(map(asks_yes_no, question.answers)):
        return extract_yes_no(text, question.text)
    words = {MEANINGS[answer.casefold()]: answer for answer in question.answers if answer.casefold() in MEANINGS}
    if question.answer_type == CLOSED and words:  # as the data write it
        extraction = extract_yes_no(text, question.text)
        return extraction._replace(answer=words.get(extraction.answer, extraction.answer))
    return extract_text(text)


def read_answer(question: Question, scorer: str, response: str) -> Any:
    """The answer of a response as a scorer reads it, for a vote; None where there is none."""
    text = response_of(response).text
    if scorer == SIMILAR:
        return multiple_choice.most_similar_pick(text, question.options)
    return extraction_of(question, text).answer


def score(question: Question, response: Response) -> Scores:
    """Every metric that the question has."""
    extraction = extraction_of(question, response.text)
    unread = {"unparsed": float(extraction.answer is None), "refused": float(extraction.rule == REFUSAL)}
    if question.answer_type == MULTIPLE_CHOICE:
        scores = {
            f"{name}_accuracy": float(picked == (question.letters if name == GENERATED else question.letters[0]))
            for name, picked in _picked(question, response).items()
            if name == GENERATED or len(question.letters) == 1
        }
        if len(question.letters) > 1 and GENERATED in question.prompts:
            scores[PARTIAL_CREDIT] = partial_credit(extraction.answer or (), question.letters)
        return {**scores, **(unread if GENERATED in question.prompts else {})}
    if question.number:
        is_percent = "%" in response.text[extraction.start : extraction.end + 2]
        return {"number_accuracy": question.number.accuracy(extraction.answer, is_percent), **unread}
    if question.answer_type == SET:
        return {**set_scores(extraction.answer, question.items), **unread}
    if question.boxes:
        return {**box_scores(extraction.answer, question.boxes.boxes), **unread}
    strict = strict_scores(extraction.answer or "", question.target, question.answer_type, question.answers)
    return {**strict, **unread, **llava_med_scores(response.text, question.target, question.answer_type)}


def picks(question: Question, response: Response) -> dict[str, str | None]:
    """Multiple choice: the letter by each of `PICKS`; None where there is no single one. Several right ones are joined by ", ".
    Without likelihoods, by the others."""
    return {
        name: ", ".join(picked) if isinstance(picked, tuple) else picked
        for name, picked in _picked(question, response).items()
    }


def sample_scores(question: Question, response: Response) -> Scores:
    """The mean scores of the sampled responses that a vote is of; nothing where there was none. Scores by likelihood, and of
    what `most_similar` asks for in other words, are not of samples."""
    samples = () if response.voted is None else response.voted.samples
    rows = [score(question, response_of(sample)) for sample in samples]
    names = [name for name in rows[0] if name != "most_similar_accuracy"] if rows else []
    return {name: sum(row[name] or 0.0 for row in rows) / len(rows) for name in names if rows[0][name] is not None}


def _picked(question: Question, response: Response) -> dict[str, str | tuple[str, ...] | None]:
    picked: dict[str, str | tuple[str, ...] | None] = {}
    if response.letters:
        picked["letter_likelihood"] = multiple_choice.letter_pick(response.letters)
    if response.options:
        sums = {letter: total for letter, (total, _) in response.options.items()}
        counts = {letter: count for letter, (_, count) in response.options.items()}
        picked |= {
            "mean_likelihood": multiple_choice.mean_likelihood_pick(sums, counts),
            "normalised_likelihood": multiple_choice.normalised_likelihood_pick(sums, question.options),
            "sum_likelihood": multiple_choice.letter_pick(sums),
            "byte_likelihood": multiple_choice.byte_likelihood_pick(sums, question.options),
        }
    if GENERATED in question.prompts:
        picked["generated"] = extraction_of(question, response.text).answer
    if SIMILAR in question.prompts:
        picked["most_similar"] = multiple_choice.most_similar_pick(response.similar or "", question.options)
    return picked


def rules_of(questions: Sequence[Question], responses: Sequence[Response]) -> Iterator[str]:
    """The rule by which each reply was read, or why it could not be."""
    for question, response in zip(questions, responses, strict=True):
        if question.is_answered:
            yield extraction_of(question, response.text).rule


def reply_of(question: Question, response: Response) -> str:
    """A response as records show it: its text, or what likelihoods alone picked."""
    if question.is_answered:
        return response.text
    letter = next((letter for letter in picks(question, response).values() if letter), None)
    return f"{letter}. {question.options[letter]}" if letter else ""


def constant_scores(questions: Sequence[Question]) -> tuple[list[Scores], dict[str, str]]:
    """The scores of each main metric's own best constant answer on every item, and these answers: for multiple choice
    the commonest right letter (or letters), the first in the alphabet of equals."""
    scores: list[Scores] = [{} for _ in questions]
    constants: dict[str, str] = {}
    free = [
        i for i, question in enumerate(questions) if question.answer_type not in (MULTIPLE_CHOICE, NUMBER, SET, BOXES)
    ]
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
            question = questions[i]
            if question.answer_type in answer_types:
                of_constant = strict_scores(constants[metric], question.target, question.answer_type, question.answers)
                scores[i][metric] = of_constant[metric]
    _add_letters(questions, scores, constants)
    numbers = {i: question.number for i, question in enumerate(questions) if question.number}
    if numbers:
        value, number_type, _ = best_number(list(numbers.values()))
        constants["number_accuracy"] = f"{value:g} ({number_type})"
        for i, number in numbers.items():
            is_right = number.number_type == number_type and number.low <= value <= number.high
            scores[i]["number_accuracy"] = float(is_right)
    sets = {i: question.items for i, question in enumerate(questions) if question.answer_type == SET}
    if sets:
        items = best_set(list(sets.values()))
        constants["set_f1"] = ", ".join(items) or "(nothing)"
        for i, right in sets.items():
            scores[i]["set_f1"] = set_scores(items, right)["set_f1"]
    targets = {i: question.boxes.boxes for i, question in enumerate(questions) if question.boxes}
    if any(targets.values()):
        constant = best_constant_box(list(targets.values()))
        constants["box_iou"] = f"the box {[round(side, 3) for side in constant]}"
        for i, boxes in targets.items():
            constant_scores = box_scores([constant], boxes)
            scores[i] |= {metric: constant_scores[metric] for metric in BOX_METRICS}
    return scores, constants


def _add_letters(questions: Sequence[Question], scores: Sequence[Scores], constants: dict[str, str]) -> None:
    with_options = [(question, row) for question, row in zip(questions, scores, strict=True) if question.options]
    single: Counter[tuple[str, ...]] = Counter(
        question.letters for question, _ in with_options if len(question.letters) == 1
    )
    for metric in CHOICE_METRICS if single else ():
        letters = _commonest(single)
        constants[metric] = letters[0]
        for question, row in with_options:
            if len(question.letters) == 1 or metric == "generated_accuracy":
                row[metric] = float(question.letters == letters)
    of_several = Counter(question.letters for question, _ in with_options if len(question.letters) > 1)
    if not of_several:
        return
    letters = _commonest(of_several)
    constants[PARTIAL_CREDIT] = ", ".join(letters)
    if not single:
        constants["generated_accuracy"] = ", ".join(letters)
    for question, row in with_options:
        if len(question.letters) > 1:
            row[PARTIAL_CREDIT] = partial_credit(letters, question.letters)
            if not single:
                row["generated_accuracy"] = float(question.letters == letters)


def _commonest(counts: Mapping[tuple[str, ...], int]) -> tuple[str, ...]:
    return min(counts, key=lambda letters: (-counts[letters], letters))
