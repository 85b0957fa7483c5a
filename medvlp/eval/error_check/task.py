"""Error check: texts that are right or have one error, and what a model says of each: a flag, a sentence, a correction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from medvlp.config.evaluation.controls import IMAGE_CONTROLS
from medvlp.config.evaluation.error_check import ALL_CORRECT_CONTROL, ErrorCheckConfig
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.error_check.records import Correcting, records_of
from medvlp.eval.error_check.texts import REASONS, CheckedTexts, examples_of, read_texts, vote_of
from medvlp.eval.errors import TaskError
from medvlp.eval.items import read_samples
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.prompting.asking import ask
from medvlp.eval.prompting.protocol import Prompting, open_prompting
from medvlp.eval.prompting.task import PromptedTask
from medvlp.eval.prompting.votes import SINGLE, SINGLE_NOTE
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult, TaskSettings
from medvlp.eval.text.plugins import Plugin, plugins_of
from medvlp.eval.trained import Trained, marked
from medvlp.eval.vqa.controls import CONTROL_NOTES, control_responses
from medvlp.eval.vqa.questions import NO_MARK, QuestionFilter, QuestionGroup, cut, reason_in_words, rows_of
from medvlp.eval.vqa.responses import Response, response_notes
from medvlp.shards import ShardDataset

NOTES = CONTROL_NOTES | {ALL_CORRECT_CONTROL: "every text is said to be right: what a reader gets who finds no error"}
SCORERS = {
    "flag_accuracy": "whether the reply says that there is an error as the data do (MEDIQA-CORR: error flags accuracy)",
    "sentence_accuracy": "the number of the sentence with the error, -1 where the text is right (its sentence detection)",
    "flag_sensitivity, sentence_sensitivity": "the same over the texts with an error",
    "flag_specificity": "the share of the right texts that are said to be right",
    "correction_<metric>": "over the texts that have an error and whose reply has a correction (the script's subset check)",
    "correction_<metric>_composite": "over all texts: 1 where neither side corrects anything, 0 where one of them does",
    "rouge_1": "F1 of the different words, as the package `rouge` 1.0.1 of MEDIQA-CORR's script; case is kept",
    "aggregate": "mean of rouge_1, bert_score and bleurt, each within 0 and 1",
    "unparsed": "the reply says neither or both (medvlp.eval.error_check.verdicts); they count as wrong",
    "refused": "of these, the reply says that it will not or cannot answer",
}


@dataclass(frozen=True)
class ErrorCheck(PromptedTask):
    """Texts of numbered sentences, checked greedily; the protocol of MEDEC (Ben Abacha et al. 2024).

    name: what results.jsonl calls it.
    dataset: the split; conversations whose metadata have `error_sentence_id` and `corrected_sentence`.
    question_filter: instruction, languages, tokens of a reply.
    plugins: scorers of corrections besides rouge_1. bert_baseline: what bert_score is rescaled by.
    controls: of `ERROR_CONTROLS`.
    bootstrap: intervals; its seed also chooses which images are exchanged for which.
    limit: texts, spread over the split; 0 asks all.
    batch_size: texts in a batch.
    trained: what of the split the model was trained on, where that was looked for.
    prompting: examples, reasons, samples.
    """

    kind: ClassVar[str] = "error_check"
    version: ClassVar[int] = 2

    name: str
    dataset: ShardDataset
    question_filter: QuestionFilter = field(default_factory=QuestionFilter)
    plugins: tuple[Plugin, ...] = ()
    bert_baseline: float = 0.0
    controls: tuple[str, ...] = (ALL_CORRECT_CONTROL,)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    limit: int = 0
    batch_size: int = 64
    trained: Trained | None = None
    prompting: Prompting = field(default_factory=Prompting)

    @classmethod
    def from_config(cls, config: ErrorCheckConfig, dataset: ShardDataset, settings: TaskSettings) -> Self:
        """The task of a configuration; in training without controls and models that compare, and with its `valid_limit`.

        Raises:
            TaskError: a plug-in that is not installed, or does not start.
            WeightsError: an encoder of BERTScore that is not here.
        """
        question_filter = QuestionFilter(
            config.instruction, tuple(config.languages), max_new_tokens=config.max_new_tokens
        )
        plugins = () if settings.in_training else plugins_of(config, ("rouge_1",))
        controls, limit = ((), config.valid_limit) if settings.in_training else (tuple(config.controls), 0)
        return cls(
            config.name,
            dataset,
            question_filter,
            plugins,
            config.bert_baseline,
            controls,
            settings.bootstrap,
            limit,
            settings.batch_size,
            prompting=open_prompting(config, dataset, settings),
        )

    def run(self, model: AnsweringModel) -> TaskResult:
        """Measure one model. Where torch.distributed runs, every rank asks its share and gets the whole result.

        Raises:
            TaskError: no text can be asked about, or a plug-in gives no numbers.
        """
        model = self.prompting.prompted(model, vote_of, examples_of(self.question_filter), self.batch_size)
        pairs, bad = read_samples(
            self.dataset,
            rows_of(self.dataset, self.limit),
            lambda sample, row: read_texts(sample, row, self.question_filter, model),
        )
        excluded = sum((reasons for _, reasons in pairs), Counter[str]())
        checked = [texts for texts, _ in pairs]
        groups = cut([texts.group for texts in checked], self.limit)
        max_new_tokens = self.question_filter.max_new_tokens
        answers = ask(self, self.prompting, model, groups, max_new_tokens, lambda question: question.text)
        bad |= answers.bad
        excluded += answers.excluded
        if not answers.answered:
            raise TaskError(
                f"task {self.name}: no text of {self.dataset.folder} can be asked about; excluded: {dict(excluded)}, "
                f"unreadable: {dict(Counter(bad.values()))}; its conversations need error_sentence_id in their metadata "
                f"(source=records with options.mapping=medec, or source=report_errors)"
            )
        groups, responses = answers.groups, answers.responses
        names = [name for name in self.controls if name in IMAGE_CONTROLS]
        controls, notes = (
            control_responses(names, model, self.dataset, groups, self.bootstrap.seed, self.batch_size, max_new_tokens)
            if names
            else ({}, {})
        )
        protocol = self._protocol(model, groups, excluded, bad)
        protocol["controls"] = {
            name: NOTES[name] for name in self.controls if name in (ALL_CORRECT_CONTROL, *controls)
        } | notes
        if any(response.voted is not None for response in responses):
            protocol["controls"][SINGLE] = SINGLE_NOTE
        protocol |= response_notes(responses, controls, answers.not_taken)
        records = self._records(checked, answers.answered, controls, protocol)
        keys = [group.key for group in groups for _ in group.questions]
        records = marked(records, keys, self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def _records(
        self,
        checked: Sequence[CheckedTexts],
        answered: Sequence[tuple[Any, list[Response]]],
        controls: Mapping[str, Sequence[Response]],
        protocol: dict[str, Any],
    ) -> list[dict[str, Any]]:
        sentences = {name: row for texts in checked for name, row in texts.sentences.items()}
        truths = {name: truth for texts in checked for name, truth in texts.truths.items()}
        protocol["scorers"] = SCORERS | {plugin.name: plugin.protocol() for plugin in self.plugins}
        correcting = Correcting(self.plugins, self.bert_baseline)
        records, rules = records_of(
            answered, controls, sentences, truths, correcting, ALL_CORRECT_CONTROL in self.controls
        )
        protocol["extraction"] = dict(sorted(rules.items()))
        return records

    def _protocol(
        self,
        model: AnsweringModel,
        groups: Sequence[QuestionGroup],
        excluded: Counter[str],
        bad: Mapping[str, str],
    ) -> dict[str, Any]:
        excluded.pop(NO_MARK, 0)
        questions = [question for group in groups for question in group.questions]

        def in_words(reason: str) -> str:
            return REASONS.get(reason) or reason_in_words(reason)

        max_new_tokens = self.question_filter.max_new_tokens
        return self.common_protocol(model, groups, excluded, bad, "text", in_words, max_new_tokens) | {
            "languages": list(self.question_filter.languages),
            "instruction": self.question_filter.instruction,
            "bert_baseline": self.bert_baseline or None,
            "error_types": dict(sorted(Counter(question.question_type or "none" for question in questions).items())),
        }
