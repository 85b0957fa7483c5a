"""Questions asked in another way: options in other orders, other names of drugs, framings; each next to the plain question."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from medvlp.config.evaluation.controls import BIAS_CONTROLS, DRUG_CONTROLS, OPTION_CONTROLS, VARIANT_CONTROLS
from medvlp.eval.items import read_samples
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.reliability.drug_names import drug_names, table_digest
from medvlp.eval.reliability.errors import NotVaried
from medvlp.eval.reliability.framings import FRAMINGS, framed, suggested_scores, suggestion
from medvlp.eval.reliability.options import none_of_the_above, rotated
from medvlp.eval.vqa.aggregate import picks, score
from medvlp.eval.vqa.controls import respond, shown_images
from medvlp.eval.vqa.questions import Question, QuestionFilter, QuestionGroup, check_prompt, with_prompts
from medvlp.eval.vqa.responses import Response
from medvlp.eval.vqa.scores import Scores
from medvlp.models.api.completion import NOT_ASKED
from medvlp.shards import BadSample, Sample, ShardDataset, ShardError

ROTATED, NONE_OF_THE_ABOVE = OPTION_CONTROLS
BRAND_NAMES, GENERIC_NAMES = DRUG_CONTROLS
MOST_NAMES = 20
"""Names of drugs in a protocol, the commonest ones."""

VARIANTS: dict[str, Callable[[Question], Question]] = {
    NONE_OF_THE_ABOVE: none_of_the_above,
    BRAND_NAMES: lambda question: drug_names()[0].put(question),
    GENERIC_NAMES: lambda question: drug_names()[1].put(question),
    **{name: partial(framed, name) for name in BIAS_CONTROLS},
}
"""Control → the question put in its way; raises NotVaried. Rotations, of which there are several, are apart."""

VARIANT_NOTES = {
    ROTATED: "the options in all rotations, the given order included: means over them; multiple choice only",
    NONE_OF_THE_ABOVE: "the right option's text replaced by 'None of the above', which is right then; multiple choice only",
    BRAND_NAMES: "generic names of drugs replaced by brand names, in questions and options; of questions that name one",
    GENERIC_NAMES: "brand names of drugs replaced by generic names, in questions and options; of questions that name one",
    **{
        name: f"behind the question: {sentence} The suggestion is a wrong option by the hash of the question's id, or the other "
        f"one of yes and no; of questions in English with such an answer"
        for name, sentence in FRAMINGS.items()
    },
}

Exchange = tuple[Question, Response]
"""A question as it was asked, and the response."""


@dataclass(frozen=True)
class Variants:
    """What the questions got that were asked in another way.

    scores: control → scores of each question; {}: it was not asked.
    exchanges: control → each question as it was asked, and its response; None: it was not. Not of rotations.
    responses: control → all responses.
    further: further scores of each question as it was given. suggested: what framings suggest, None where nothing.
    notes: what a protocol says: how many questions were asked, why others were not, the names of drugs.
    """

    scores: dict[str, list[Scores]] = field(default_factory=dict)
    exchanges: dict[str, list[Exchange | None]] = field(default_factory=dict)
    responses: dict[str, list[Response]] = field(default_factory=dict)
    further: list[Scores] = field(default_factory=list)
    suggested: list[str | None] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asking:
    """How variants of the questions of some groups are asked, each with its sample's own images."""

    model: AnsweringModel
    dataset: ShardDataset
    groups: Sequence[QuestionGroup]
    question_filter: QuestionFilter
    batch_size: int

    def responses(self, variants: Mapping[int, Question]) -> tuple[dict[int, Exchange], Counter[str]]:
        """Index of a question → its variant in the task's words, and the response; reason → those that were not asked."""
        if not variants:
            return {}, Counter()
        put = {i: with_prompts(question, self.question_filter) for i, question in variants.items()}
        not_asked = self._problems(put)
        put = {i: question for i, question in put.items() if i not in not_asked}
        varied = self._groups(put)
        rows = respond(
            self.model, self.dataset, varied, shown_images(varied), self.batch_size, self.question_filter.max_new_tokens
        )
        stream: list[Response] = []
        for group, row in zip(varied, rows, strict=True):
            if isinstance(row, str):
                raise ShardError(f"{group.key} was readable before, and is not any more: {row}")
            stream += row
        exchanges = {i: (put[i], response) for i, response in zip(sorted(put), stream, strict=True)}
        not_asked |= {i: response.finish for i, (_, response) in exchanges.items() if response.finish in NOT_ASKED}
        return {i: pair for i, pair in exchanges.items() if i not in not_asked}, Counter(not_asked.values())

    def _problems(self, variants: Mapping[int, Question]) -> dict[int, str]:
        """Index → why the model cannot be asked, such as `too_long`."""
        groups = self._groups(variants)
        indices = iter(sorted(variants))
        by_row = {group.row: [next(indices) for _ in group.questions] for group in groups}

        def problems_of(sample: Sample, row: int) -> dict[int, str]:
            images = [sample.images[name] for name in sorted(sample.images)] if self.model.takes_images else []
            reasons: dict[int, str] = {}
            for i in by_row[row]:
                try:
                    check_prompt(variants[i], images, self.question_filter, self.model)
                except BadSample as problem:
                    reasons[i] = problem.reason
            return reasons

        parts, _ = read_samples(self.dataset, list(by_row), problems_of)
        return {i: reason for part in parts for i, reason in part.items()}

    def _groups(self, variants: Mapping[int, Question]) -> list[QuestionGroup]:
        """The groups with their variants alone; those without any are left out."""
        varied = []
        start = 0
        for group in self.groups:
            indices = [i for i in range(start, start + len(group.questions)) if i in variants]
            start += len(group.questions)
            if indices:
                varied.append(replace(group, questions=tuple(variants[i] for i in indices)))
        return varied


def ask_variants(
    controls: Sequence[str],
    model: AnsweringModel,
    dataset: ShardDataset,
    groups: Sequence[QuestionGroup],
    responses: Sequence[Response],
    question_filter: QuestionFilter,
    batch_size: int,
) -> Variants:
    """The questions of all groups put in the ways of the controls among `VARIANT_CONTROLS`, and asked.

    Of `rotated_options` a score is the mean over all orders, the given one included. The further scores are
    `<pick>_consistency`: 1 where every order picks the same text, and none of them nothing; and `<pick>_suggested`: 1 where the
    plain question, too, gets the answer that framings suggest.

    responses: to the questions as they are given.
    """
    questions = [question for group in groups for question in group.questions]
    variants = Variants(further=[{} for _ in questions], suggested=[None for _ in questions])
    asking = Asking(model, dataset, groups, question_filter, batch_size)
    names = [name for name in VARIANT_CONTROLS if name in controls]
    if ROTATED in names:
        _ask_rotations(asking, questions, responses, variants)
    for name in names:
        if name == ROTATED:
            continue
        put: dict[int, Question] = {}
        reasons = Counter[str]()
        for i, question in enumerate(questions):
            try:
                put[i] = VARIANTS[name](question)
            except NotVaried as problem:
                reasons[str(problem)] += 1
        exchanges, not_asked = asking.responses(put)
        variants.notes.setdefault("questions", {})[name] = {
            "asked": len(exchanges),
            "not_asked": dict(sorted((reasons + not_asked).items())),
        }
        if exchanges:
            pairs = [exchanges.get(i) for i in range(len(questions))]
            variants.exchanges[name] = pairs
            variants.responses[name] = [response for _, response in exchanges.values()]
            variants.scores[name] = [_scores(name, pair) if pair else {} for pair in pairs]
    if any(name in variants.scores for name in BIAS_CONTROLS):
        for i, (question, response) in enumerate(zip(questions, responses, strict=True)):
            variants.further[i] |= suggested_scores(question, response)
            variants.suggested[i] = suggestion(question)
    if any(name in names for name in DRUG_CONTROLS):
        variants.notes["drug_names"] = {"table_sha256": table_digest()} | {
            name: dict(list_of.counts(questions).most_common(MOST_NAMES))
            for name, list_of in zip(DRUG_CONTROLS, drug_names(), strict=True)
            if name in names
        }
    return variants


def _scores(control: str, pair: Exchange) -> Scores:
    return score(*pair) | (suggested_scores(*pair) if control in BIAS_CONTROLS else {})


def _ask_rotations(
    asking: Asking, questions: Sequence[Question], responses: Sequence[Response], variants: Variants
) -> None:
    with_options = {i: question for i, question in enumerate(questions) if question.options}
    reasons = Counter[str]()
    for i, question in list(with_options.items()):
        try:
            rotated(question, 0)
        except NotVaried as problem:
            reasons[str(problem)] += 1
            del with_options[i]
    if not with_options:
        if reasons:
            variants.notes.setdefault("questions", {})[ROTATED] = {"asked": 0, "not_asked": dict(reasons)}
        return
    of_orders = {i: [(question, responses[i])] for i, question in with_options.items()}
    of_control = variants.responses.setdefault(ROTATED, [])
    incomplete: set[int] = set()
    for shift in range(1, max(len(question.options) for question in with_options.values())):
        turned = {i: rotated(question, shift) for i, question in with_options.items() if shift < len(question.options)}
        exchanges, _ = asking.responses(turned)
        for i in turned:
            if i not in exchanges:
                incomplete.add(i)
                continue
            of_orders[i].append(exchanges[i])
            of_control.append(exchanges[i][1])
    for i in incomplete:
        del of_orders[i]
    if incomplete:
        reasons["an order could not be asked"] = len(incomplete)
    variants.notes.setdefault("questions", {})[ROTATED] = {"asked": len(of_orders), "not_asked": dict(reasons)}
    variants.scores[ROTATED] = [_mean([score(*pair) for pair in of_orders.get(i, ())]) for i in range(len(questions))]
    for i, orders in of_orders.items():
        variants.further[i] |= _consistency(orders)


def _mean(rows: Sequence[Scores]) -> Scores:
    if not rows:
        return {}
    names = [name for name, value in rows[0].items() if value is not None]
    return {name: sum(row.get(name) or 0.0 for row in rows) / len(rows) for name in names}


def _consistency(orders: Sequence[Exchange]) -> Scores:
    texts: dict[str, list[str | None]] = {}
    for question, response in orders:
        for name, pick in picks(question, response).items():
            picked = sorted(question.options[letter] for letter in pick.split(", ")) if pick else None
            texts.setdefault(name, []).append("\n".join(picked) if picked else None)
    return {
        f"{name}_consistency": float(len(set(of_pick)) == 1 and of_pick[0] is not None)
        for name, of_pick in texts.items()
    }
