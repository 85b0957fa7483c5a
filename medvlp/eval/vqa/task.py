"""Visual question answering: one log of responses, several scorers over it, and controls that do not see the image."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from medvlp.config import VqaConfig
from medvlp.config.evaluation.answering.prompt_sets import with_prompt_set
from medvlp.config.evaluation.controls import CONTROLS, DEFAULT_CONTROLS
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.boxes.questions import box_protocol
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import mistaken, slip
from medvlp.eval.items import read_samples
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.prompting.asking import Answers, ask
from medvlp.eval.prompting.examples import questions_of
from medvlp.eval.prompting.protocol import Prompting, open_prompting
from medvlp.eval.prompting.sets import PromptSets, mean_score
from medvlp.eval.prompting.task import PromptedTask
from medvlp.eval.prompting.votes import SINGLE, SINGLE_NOTE
from medvlp.eval.reliability.pairs import pair_notes, without_partner
from medvlp.eval.reliability.variants import VARIANT_NOTES, ask_variants
from medvlp.eval.statistics.measures import measures
from medvlp.eval.statistics.reliance import RELIANCE, reliance_sentences
from medvlp.eval.task import TaskResult, TaskSettings, validation_split
from medvlp.eval.trained import Trained, marked
from medvlp.eval.vqa.aggregate import constant_scores, read_answer, rules_of, sample_scores, score
from medvlp.eval.vqa.controls import CONTROL_NOTES, control_responses
from medvlp.eval.vqa.metrics import MULTIPLE_CHOICE
from medvlp.eval.vqa.prompts import choice_protocol
from medvlp.eval.vqa.questions import (
    LANGUAGE,
    NO_MARK,
    Question,
    QuestionFilter,
    QuestionGroup,
    cut,
    lost_pairs,
    read_group,
    reason_in_words,
    rows_of,
)
from medvlp.eval.vqa.records import records_of
from medvlp.eval.vqa.responses import LIKELIHOOD, Response, response_notes
from medvlp.eval.vqa.scores import MAIN, SCORERS, likelihood_metrics
from medvlp.shards import ShardDataset

BEST_CONSTANT = CONTROLS[0]
NOTES = {
    BEST_CONSTANT: "the constant answer (or letter) that scores best, chosen on the very items that it is scored on",
    **CONTROL_NOTES,
    **VARIANT_NOTES,
}
"""Control → what it is, in words."""


@dataclass(frozen=True)
class Vqa(PromptedTask):
    """Questions of a split, answered in free text.

    Scores of all questions of a type are averaged; an answer that cannot be read is wrong, never skipped.

    name: what results.jsonl calls it.
    dataset: the split.
    question_filter: which questions, and how they are put.
    controls: of `CONTROLS`.
    bootstrap: intervals; its seed also chooses which images are exchanged for which.
    limit: questions, spread over the split; 0 asks all.
    batch_size: questions in a batch.
    trained: what of the split the model was trained on, where that was looked for.
    prompting: examples, reasons, samples.
    prompt_sets: several tasks by name, of which one gives the scores; prompt_set_keys: what they differ in.
    instructions: several by name, instead of the filter's own; valid: the split on which one is chosen (None takes the
    first), by `valid_limit` questions of it (0 asks all).
    """

    kind: ClassVar[str] = "vqa"
    version: ClassVar[int] = 7

    name: str
    dataset: ShardDataset
    question_filter: QuestionFilter = field(default_factory=QuestionFilter)
    controls: tuple[str, ...] = DEFAULT_CONTROLS
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    limit: int = 0
    batch_size: int = 64
    trained: Trained | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)
    prompting: Prompting = field(default_factory=Prompting)
    prompt_sets: Mapping[str, "Vqa"] = field(default_factory=dict)
    prompt_set_keys: Mapping[str, Any] = field(default_factory=dict)
    valid: ShardDataset | None = None
    valid_limit: int = 0

    @classmethod
    def needs(cls, config: VqaConfig) -> tuple[str, ...]:
        """Answers in free text; likelihoods where nothing but options is asked and none of the scorers reads a text."""
        choice_alone = config.answer_types == [MULTIPLE_CHOICE]
        is_answered = not choice_alone or config.wording().choice.generating
        return ("generate",) if is_answered else (LIKELIHOOD,)

    @classmethod
    def uses(cls, config: VqaConfig) -> dict[str, tuple[str, ...]]:
        """Likelihoods of the options, where multiple choice is asked and a scorer takes them."""
        is_multiple_choice_asked = not config.answer_types or MULTIPLE_CHOICE in config.answer_types
        metrics = likelihood_metrics(config.scorers)
        return {LIKELIHOOD: metrics} if is_multiple_choice_asked and metrics else {}

    @classmethod
    def from_config(cls, config: VqaConfig, dataset: ShardDataset, settings: TaskSettings) -> "Vqa":
        """The task of a configuration; in training without controls, and with its `valid_limit`."""
        wording = config.wording()
        question_filter = QuestionFilter(
            wording.instruction,
            tuple(config.languages),
            tuple(config.answer_types),
            config.max_new_tokens,
            wording.choice,
            config.box_form,
            config.box_words,
        )
        controls, limit = ((), config.valid_limit) if settings.in_training else (tuple(config.controls), 0)
        prompting = open_prompting(config, dataset, settings)
        task = cls(config.name, dataset, question_filter, controls, settings.bootstrap, limit, settings.batch_size)
        task = replace(task, prompting=prompting)
        if config.prompt_sets:
            sets = {name: with_prompt_set(config, name, keys) for name, keys in config.prompt_sets.items()}
            by_name = {name: cls.from_config(of_set, dataset, settings) for name, of_set in sets.items()}
            task = replace(next(iter(by_name.values())), prompt_sets=by_name, prompt_set_keys=config.prompt_sets)
        if settings.in_training or not (config.instructions or config.prompt_sets):
            return replace(task, prompt_sets={})
        valid = validation_split(config, dataset)
        return replace(task, instructions=config.instructions, valid=valid, valid_limit=config.valid_limit)

    def run(self, model: AnsweringModel) -> TaskResult:
        """Measure one model. Where torch.distributed runs, every rank answers its share and gets the whole result.

        Raises:
            TaskError: no question can be asked, or a language that none is in next to one that is not named.
        """
        if self.instructions or self.prompt_sets:
            tasks = self.prompt_sets or {name: self._instructed(text) for name, text in self.instructions.items()}
            keys = self.prompt_set_keys or self.instructions
            return PromptSets(tasks, keys, "mean score", mean_score, MAIN).measure(self, model)
        model = self.prompting.prompted(model, read_answer, questions_of(self.question_filter), self.batch_size)
        groups, excluded, bad = self._groups(model)
        answers = ask(
            self,
            self.prompting,
            model,
            groups,
            self.question_filter.max_new_tokens,
            lambda question: question.text,
        )
        bad |= answers.bad
        excluded += answers.excluded
        self._check_filters(groups, excluded)
        if not answers.answered:
            raise TaskError(
                f"task {self.name}: no question of {self.dataset.folder} can be asked; excluded: {dict(excluded)}, "
                f"unreadable: {dict(Counter(bad.values()))}"
            )
        return self._result(model, answers, excluded, bad, lost_pairs(groups, answers.groups))

    def _instructed(self, instruction: str) -> "Vqa":
        return replace(self, instructions={}, question_filter=replace(self.question_filter, instruction=instruction))

    def _result(
        self,
        model: AnsweringModel,
        answers: Answers,
        excluded: Counter[str],
        bad: Mapping[str, str],
        incomplete: Set[str],
    ) -> TaskResult:
        groups, responses = answers.groups, answers.responses
        questions = [question for group in groups for question in group.questions]
        controls, notes = control_responses(
            self.controls,
            model,
            self.dataset,
            groups,
            self.bootstrap.seed,
            self.batch_size,
            self.question_filter.max_new_tokens,
        )
        scores = [score(question, response) for question, response in zip(questions, responses, strict=True)]
        blind = {
            name: [score(question, response) for question, response in zip(questions, of_control, strict=True)]
            for name, of_control in controls.items()
        }
        variants = ask_variants(
            self.controls, model, self.dataset, groups, responses, self.question_filter, self.batch_size
        )
        blind |= variants.scores
        for row, further_scores in zip(scores, variants.further, strict=True):
            row |= further_scores
        if BEST_CONSTANT in self.controls:
            blind[BEST_CONSTANT], notes["constants"] = constant_scores(questions)
        blind = {name: blind[name] for name in CONTROLS if name in blind}
        if any(response.voted is not None for response in responses):
            blind[SINGLE] = [sample_scores(*pair) for pair in zip(questions, responses, strict=True)]
        protocol = self._protocol(model, groups, excluded, bad)
        protocol["controls"] = {name: NOTES.get(name, SINGLE_NOTE) for name in blind} | notes | variants.notes
        protocol |= response_notes(responses, controls | variants.responses, answers.not_taken)
        lost = likelihood_metrics(self.question_filter.choice.scorers)
        if LIKELIHOOD not in model.offers and lost and any(question.options for question in questions):
            protocol["omitted"] = dict.fromkeys(lost, f"the model offers no {LIKELIHOOD}")
        protocol["extraction"] = dict(sorted(Counter(rules_of(questions, responses)).items()))
        keys = [group.key for group in groups for _ in group.questions]
        exchanges: dict[str, Sequence[tuple[Question, Response] | None]] = {
            name: list(zip(questions, of_control, strict=True)) for name, of_control in controls.items()
        }
        exchanges |= variants.exchanges
        records = records_of(groups, responses, scores, exchanges, blind, variants.suggested)
        records = without_partner(marked(records, keys, self.trained), incomplete)
        protocol |= pair_notes(records)
        metric_values = self.bootstrap.measure(measures(records, protocol))
        if reliance := reliance_sentences(metric_values):
            protocol |= {"reliance": reliance, "reliance_metrics": RELIANCE}
        return TaskResult(self.name, self.kind, metric_values, records, protocol)

    def _groups(self, model: AnsweringModel) -> tuple[list[QuestionGroup], Counter[str], dict[str, str]]:
        """Questions to ask; reason → excluded questions; key → reason of samples that cannot be read."""
        pairs, bad = read_samples(
            self.dataset,
            rows_of(self.dataset, self.limit),
            lambda sample, row: read_group(sample, row, self.question_filter, model),
        )
        excluded = sum((reasons for _, reasons in pairs), Counter[str]())
        return cut([group for group, _ in pairs], self.limit), excluded, bad

    def _protocol(
        self,
        model: AnsweringModel,
        groups: Sequence[QuestionGroup],
        excluded: Counter[str],
        bad: Mapping[str, str],
    ) -> dict[str, Any]:
        questions = [question for group in groups for question in group.questions]
        unmarked = excluded.pop(NO_MARK, 0)
        max_new_tokens = self.question_filter.max_new_tokens
        return self.common_protocol(model, groups, excluded, bad, "question", reason_in_words, max_new_tokens) | {
            "answer_types": dict(sorted(Counter(question.answer_type for question in questions).items())),
            "answer_types_inferred": unmarked,
            "languages": list(self.question_filter.languages),
            "instruction": self.question_filter.instruction,
            **choice_protocol(self.question_filter.choice, questions),
            **box_protocol(questions),
            "scorers": SCORERS,
            "tie_rule": "multiple choice: where the best options tie, none is picked, which counts as wrong",
        }

    def _check_filters(self, groups: Sequence[QuestionGroup], excluded: Counter[str]) -> None:
        """Raises TaskError for a language that no question is in, next to one that is not named."""
        languages = self.question_filter.languages
        counts = Counter(question.language for group in groups for question in group.questions)
        counts += Counter({name.removeprefix(LANGUAGE): n for name, n in excluded.items() if name.startswith(LANGUAGE)})
        pairs = mistaken(languages, counts) if any(counts[name] for name in languages) else []
        if pairs:
            sentence = slip("language", pairs[0][0], 0, *pairs[0][1:]).replace("sample", "question")
            raise TaskError(
                f"task {self.name}: {sentence} languages lists those of {self.dataset.folder} that are asked"
            )
