"""Visual question answering: one generation log, several scorers over it, and controls that do not see the image.

S: side of an image.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medvlp.data.chat.templates import split_thought
from medvlp.eval.embeddings import ImageEmbeddings, Item, _on_all_ranks
from medvlp.eval.exclusions import exclusion_lines, mistaken, slip
from medvlp.eval.task import Bootstrap, Outcome, protocol
from medvlp.eval.trained import Trained
from medvlp.eval.vqa.aggregate import (
    MAIN,
    SCORERS,
    Reply,
    Scores,
    columns,
    constant_scores,
    measure,
    picks,
    score,
)
from medvlp.eval.vqa.controls import BEST_CONSTANT, BLANK_IMAGE, CONTROLS, SHUFFLED_IMAGES, derangement
from medvlp.eval.vqa.questions import (
    LANGUAGE,
    NO_MARK,
    Case,
    Choice,
    Respondent,
    cut,
    read_case,
    reason_in_words,
    rows_of,
)
from medvlp.shards import BadSample, ShardDataset, ShardError

READ_AT_ONCE = 256
"""Samples that a rank reads in one turn."""

CONTROL_NOTES = {
    BEST_CONSTANT: "the constant answer (or letter) that scores best, chosen on the very items that it is scored on",
    BLANK_IMAGE: "every image replaced by one of the image processor's mean colour (0 after normalisation)",
    SHUFFLED_IMAGES: "every image replaced by another sample's: a derangement over the images, drawn with `seed`",
}


@dataclass(frozen=True)
class Vqa:
    """Questions of a split, answered greedily in free text.

    Scores of all questions of a type are averaged; an answer that cannot be read is wrong, never left out.

    name: what results.jsonl calls it.
    dataset: the split.
    choice: which questions, and how they are asked.
    controls: of `CONTROLS`.
    bootstrap: intervals; its seed also draws which images are exchanged for which.
    limit: questions, spread over the split; 0 asks all.
    batch_size: questions in a batch.
    trained: what of the split the model was trained on, where that was looked for.
    """

    name: str
    dataset: ShardDataset
    choice: Choice = field(default_factory=Choice)
    controls: tuple[str, ...] = CONTROLS
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    limit: int = 0
    batch_size: int = 64
    trained: Trained | None = None

    def run(self, respondent: Respondent) -> Outcome:
        """Measure one model. Where torch.distributed runs, every rank answers its share and gets the whole result.

        Raises:
            ValueError: no question is left to ask.
        """
        cases, excluded, bad = self._cases(respondent)
        replies = self._ask(respondent, cases, lambda case: self._pixels(respondent, cases[case]))
        bad |= {cases[i].key: reply for i, reply in enumerate(replies) if isinstance(reply, str)}
        answered = [(case, reply) for case, reply in zip(cases, replies, strict=True) if not isinstance(reply, str)]
        self._check_filters(cases, excluded)
        if not answered:
            raise ValueError(
                f"task {self.name}: no question of {self.dataset.folder} can be asked; excluded: {dict(excluded)}, "
                f"unreadable: {dict(Counter(bad.values()))}"
            )
        cases = [case for case, _ in answered]
        questions = [question for case in cases for question in case.questions]
        own = [reply for _, replies in answered for reply in replies]
        controls, notes = self._control_replies(respondent, cases)
        scores = [score(question, reply) for question, reply in zip(questions, own, strict=True)]
        blind = {
            name: [score(question, reply) for question, reply in zip(questions, given, strict=True)]
            for name, given in controls.items()
        }
        if BEST_CONSTANT in self.controls:
            blind[BEST_CONSTANT], notes["constants"] = constant_scores(questions)
        blind = {name: blind[name] for name in CONTROLS if name in blind}
        groups = [case.group for case in cases for _ in case.questions]
        card = self._card(respondent, cases, excluded, bad)
        card["controls"] = {name: CONTROL_NOTES[name] for name in blind} | notes
        records = self._records(cases, own, scores, controls)
        trained_N = self.trained.holds([case.key for case in cases for _ in case.questions]) if self.trained else None
        measured = measure(columns(scores, blind), groups, self.bootstrap, trained_N)
        return Outcome(self.name, measured, records, card)

    def _cases(self, respondent: Respondent) -> tuple[list[Case], Counter[str], dict[str, str]]:
        rows = rows_of(self.dataset, self.limit)

        def read(places: range) -> tuple[list[Case], Counter[str], dict[str, str]]:
            cases, excluded, bad = [], Counter[str](), {}
            for row in (rows[place] for place in places):
                try:
                    sample = self.dataset.read(row)
                except BadSample as problem:
                    bad[self.dataset.key(row)] = problem.reason
                    continue
                case, left_out = read_case(sample, row, self.choice, respondent)
                cases.append(case)
                excluded += left_out
            return cases, excluded, bad

        parts = _on_all_ranks(list(batched([1] * len(rows), READ_AT_ONCE)), read)
        excluded = sum((part[1] for part in parts), Counter[str]())
        bad = {key: reason for part in parts for key, reason in part[2].items()}
        return cut([case for part in parts for case in part[0]], self.limit), excluded, bad

    def _pixels(self, respondent: Respondent, case: Case) -> Tensor:
        return respondent.pictures(self.dataset.read(case.row))

    def _control_replies(
        self, respondent: Respondent, cases: Sequence[Case]
    ) -> tuple[dict[str, list[Reply]], dict[str, Any]]:
        """Replies to all questions by control, and what a protocol says of them."""
        wanted = [name for name in (BLANK_IMAGE, SHUFFLED_IMAGES) if name in self.controls]
        counts = [case.images for case in cases]
        if not sum(counts):
            return {}, {"left out": f"{', '.join(wanted)}: no sample has an image"} if wanted else {}
        found: dict[str, list[Reply]] = {}
        notes: dict[str, Any] = {}
        if BLANK_IMAGE in wanted:
            # One tensor for all cases of as many images: their questions share one beginning.
            blanks = {count: respondent.blank(count) for count in set(counts)}
            found[BLANK_IMAGE] = self._all(respondent, cases, lambda case: blanks[counts[case]])
        if SHUFFLED_IMAGES in wanted:
            try:
                other = derangement(counts, self.bootstrap.seed)
            except ValueError as error:
                return found, {"left out": f"{SHUFFLED_IMAGES}: {error}"}

            def exchanged(case: int) -> Tensor:
                shown = [self._pixels(respondent, cases[donor])[place] for donor, place in other[case]]
                return torch.stack(shown) if shown else torch.empty(0)

            found[SHUFFLED_IMAGES] = self._all(respondent, cases, exchanged)
            hashes = self.dataset.column("sha256")
            notes["seed"] = self.bootstrap.seed
            notes["exchanged_for_an_equal_image"] = sum(
                hashes[case.row] == hashes[cases[donor].row]
                for case, places in zip(cases, other, strict=True)
                for donor, _ in places
            )
        return found, notes

    def _all(self, respondent: Respondent, cases: Sequence[Case], pixels: Callable[[int], Tensor]) -> list[Reply]:
        found: list[Reply] = []
        for case, replies in zip(cases, self._ask(respondent, cases, pixels), strict=True):
            if isinstance(replies, str):
                raise ShardError(f"{case.key} was readable before, and is not any more: {replies}")
            found += replies
        return found

    def _ask(
        self, respondent: Respondent, cases: Sequence[Case], pixels: Callable[[int], Tensor]
    ) -> list[list[Reply] | str]:
        """For every case the replies to its questions, or why its images cannot be read."""

        def answer(places: range) -> list[list[Reply] | str]:
            found: dict[int, Tensor | str] = {}
            for place in places:
                try:
                    found[place] = pixels(place)
                except BadSample as problem:
                    found[place] = problem.reason
            seen = [(cases[place], shown) for place, shown in found.items() if isinstance(shown, Tensor)]
            replies = iter(reply(respondent, seen, self.choice.max_new_tokens))
            return [
                shown if isinstance(shown, str) else [next(replies) for _ in cases[place].questions]
                for place, shown in found.items()
            ]

        batches = list(batched([len(case.questions) for case in cases], self.batch_size))
        return [one for part in _on_all_ranks(batches, answer) for one in part]

    def _card(
        self, respondent: Respondent, cases: Sequence[Case], excluded: Counter[str], bad: Mapping[str, str]
    ) -> dict[str, Any]:
        items = [Item(case.key, case.group, {}, {}, case.group_kind) for case in cases for _ in case.questions]
        questions = [question for case in cases for question in case.questions]
        unmarked = excluded.pop(NO_MARK, 0)
        images = ImageEmbeddings([], torch.empty(0), dict(bad))
        bad_counts = images.bad_counts()
        card = protocol("vqa", self.dataset, respondent, images, items, excluded, self.bootstrap, self.trained)
        first = respondent.encoder.prompt(questions[0].turns, cases[0].images)
        return card | {
            "answer_types": dict(sorted(Counter(question.answer_type for question in questions).items())),
            "answer_types_inferred": unmarked,
            "exclusions": exclusion_lines(
                {reason_in_words(reason): count for reason, count in excluded.items()},
                bad_counts,
                "question",
                len(questions),
            ),
            "limit": self.limit or None,
            "languages": list(self.choice.languages),
            "instruction": self.choice.instruction,
            "first_prompt": respondent.shown(first),
            **respondent.card(),
            "decoding": f"greedy, no penalties, at most {self.choice.max_new_tokens} tokens",
            "scorers": SCORERS,
            "tie_rule": "multiple choice: where the best options tie, none is picked, which counts as wrong",
        }

    def _check_filters(self, cases: Sequence[Case], excluded: Counter[str]) -> None:
        """Raises ValueError for a language that no question is in, beside one that nobody asks for."""
        found = Counter(question.language for case in cases for question in case.questions)
        found += Counter({name.removeprefix(LANGUAGE): n for name, n in excluded.items() if name.startswith(LANGUAGE)})
        pairs = mistaken(self.choice.languages, found) if any(found[name] for name in self.choice.languages) else []
        if pairs:
            said = slip("language", pairs[0][0], 0, *pairs[0][1:]).replace("sample", "question")
            raise ValueError(f"task {self.name}: {said} languages lists those of {self.dataset.folder} that are asked")

    def _records(
        self,
        cases: Sequence[Case],
        own: Sequence[Reply],
        scores: Sequence[Scores],
        controls: Mapping[str, Sequence[Reply]],
    ) -> list[dict[str, Any]]:
        asked = [(case, question) for case in cases for question in case.questions]
        records = []
        for i, (case, question) in enumerate(asked):
            record: dict[str, Any] = {
                "id": question.id,
                "group": case.group,
                "question": question.text,
                "prediction": own[i].text,
                "target": question.target,
                "score": next(scores[i][name] for name in (*MAIN[:2], "generated_accuracy") if name in scores[i]),
                "answer_type": question.answer_type,
                "question_type": question.question_type,
                "language": question.language,
                "scores": scores[i],
                "controls": {name: replies[i].text for name, replies in controls.items()},
            }
            if question.options:
                record |= {
                    "options": question.options,
                    "letter": question.letter,
                    "picks": picks(question, own[i]),
                    "letter_logprob": own[i].letters,
                    "option_logprob": own[i].options,
                }
            records.append(record)
        return records


def batched(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Neighbouring cases, so that a batch has at most so many questions, or one case."""
    start, total = 0, 0
    for place, size in enumerate(sizes):
        if place > start and total + size > most:
            yield range(start, place)
            start, total = place, 0
        total += size
    if sizes:
        yield range(start, len(sizes))


def reply(respondent: Respondent, seen: Sequence[tuple[Case, Tensor]], max_new_tokens: int) -> list[Reply]:
    """Replies to all questions of some cases, in order."""
    asked = [(question, case.images, pixels) for case, pixels in seen for question in case.questions]
    prompt, continuation = respondent.encoder.prompt, respondent.continuation
    jobs = [(prompt(question.turns, images), pixels) for question, images, pixels in asked]
    texts = [split_thought(text)[1].strip() for text in respondent.answerer.answers(jobs, max_new_tokens)]
    choosing = [i for i, (question, _, _) in enumerate(asked) if question.options]
    if not choosing:
        return [Reply(text) for text in texts]
    some = [asked[i] for i in choosing]
    letters = respondent.answerer.option_loglikelihoods(
        [jobs[i] for i in choosing],
        [[continuation(question.turns, letter, images) for letter in question.options] for question, images, _ in some],
    )
    options = respondent.answerer.option_loglikelihoods(
        [(prompt(question.unlisted, images), pixels) for question, images, pixels in some],
        [
            [continuation(question.unlisted, text, images) for text in question.options.values()]
            for question, images, _ in some
        ],
    )
    replies = [Reply(text) for text in texts]
    for place, i in enumerate(choosing):
        names = list(asked[i][0].options)
        by_letter = {name: total for name, (total, _) in zip(names, letters[place], strict=True)}
        replies[i] = Reply(texts[i], by_letter, dict(zip(names, options[place], strict=True)))
    return replies
