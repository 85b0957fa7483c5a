"""Written text: a text about each sample, asked for once, compared with the sample's own by several scorers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from medvlp.config import WrittenTextConfig
from medvlp.config.evaluation.answering.prompt_sets import with_prompt_set
from medvlp.config.evaluation.metric_names import MAIN, direction
from medvlp.config.evaluation.written_text import TEXT_CONTROLS, TEXT_METRICS
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import TaskError
from medvlp.eval.items import Item, items_of, read_samples
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.prompting.asking import ask
from medvlp.eval.prompting.protocol import Prompting, open_prompting
from medvlp.eval.prompting.sets import PromptSets
from medvlp.eval.prompting.task import PromptedTask
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult, TaskSettings, validation_split
from medvlp.eval.text.findings.rules import LIMITS
from medvlp.eval.text.plugins import Plugin, plugins_of
from medvlp.eval.text.prompts import TextPrompt, reason_in_words
from medvlp.eval.text.records import records_of
from medvlp.eval.text.scores import TextScorer, scorers_of
from medvlp.eval.text.tokens import DESCRIPTIONS
from medvlp.eval.trained import Trained, marked
from medvlp.eval.vqa.controls import (
    CONTROL_NOTES,
    NoDerangement,
    control_responses,
    derangement,
)
from medvlp.eval.vqa.questions import Question, QuestionGroup, rows_of
from medvlp.eval.vqa.responses import Response, response_notes
from medvlp.shards import BadSample, Sample, ShardDataset

EXCHANGED_REFERENCE = TEXT_CONTROLS[0]
NOTES = CONTROL_NOTES | {
    EXCHANGED_REFERENCE: "instead of a text the reference of another sample, drawn with `seed`: what a writer gets who knows the "
    "kind of text and nothing of the sample",
}


@dataclass(frozen=True)
class WrittenText(PromptedTask):
    """Texts about the samples of a split, written greedily. A blank text scores 0, it is never skipped.

    name: what results.jsonl calls it.
    dataset: the split.
    prompt: how a text is asked for.
    metrics: of `TEXT_METRICS`. plugins: scorers of other packages, and BERTScore.
    tokenization: how texts are cut into tokens.
    controls: of `TEXT_CONTROLS`.
    bootstrap: intervals; its seed also chooses what is exchanged for what.
    limit: texts, spread over the split; 0 writes all.
    batch_size: texts in a batch.
    trained: what of the split the model was trained on, where that was looked for.
    prompting: examples, temperature.
    prompt_sets: several tasks by name, of which one gives the scores; prompt_set_keys: what they differ in. valid: the split on
    which one is chosen (None takes the first) by prompt_set_metric, with `valid_limit` of its texts (0 takes all).
    """

    kind: ClassVar[str] = "text"
    version: ClassVar[int] = 2

    name: str
    dataset: ShardDataset
    prompt: TextPrompt
    metrics: tuple[str, ...] = TEXT_METRICS
    plugins: tuple[Plugin, ...] = ()
    tokenization: str = "words"
    controls: tuple[str, ...] = TEXT_CONTROLS[:3]
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    limit: int = 0
    batch_size: int = 64
    trained: Trained | None = None
    prompting: Prompting = field(default_factory=Prompting)
    prompt_sets: Mapping[str, "WrittenText"] = field(default_factory=dict)
    prompt_set_keys: Mapping[str, Any] = field(default_factory=dict)
    prompt_set_metric: str = ""
    valid: ShardDataset | None = None
    valid_limit: int = 0

    @classmethod
    def from_config(cls, config: WrittenTextConfig, dataset: ShardDataset, settings: TaskSettings) -> Self:
        """The task of a configuration; in training without controls and models that compare, and with its `valid_limit`.

        Raises:
            TaskError: a plug-in that is not installed, or does not start.
            WeightsError: an encoder of BERTScore that is not here.
        """
        prompt = TextPrompt(
            tuple(config.references), config.instruction, config.source, config.show_images, config.max_new_tokens
        )
        metrics = tuple(name for name in config.metrics if name in TEXT_METRICS)
        plugins = () if settings.in_training else plugins_of(config, TEXT_METRICS)
        controls, limit = ((), config.valid_limit) if settings.in_training else (tuple(config.controls), 0)
        task = cls(
            config.name,
            dataset,
            prompt,
            metrics,
            plugins,
            config.tokenization,
            controls,
            settings.bootstrap,
            limit,
            settings.batch_size,
            prompting=open_prompting(config, dataset, settings),
        )
        if not config.prompt_sets:
            return task
        sets = {name: with_prompt_set(config, name, keys) for name, keys in config.prompt_sets.items()}
        by_name = {name: cls.from_config(of_set, dataset, settings) for name, of_set in sets.items()}
        first = next(iter(by_name.values()))
        if settings.in_training:
            return first
        return replace(
            first,
            prompt_sets=by_name,
            prompt_set_keys=config.prompt_sets,
            prompt_set_metric=config.prompt_set_metric,
            valid=validation_split(config, dataset),
            valid_limit=config.valid_limit,
        )

    def _examples_of(self, sample: Sample, row: int) -> list[tuple[Question, str]]:
        """A sample of the examples' split as an example; none where it has no text, or nothing to write about."""
        try:
            count = len(self.prompting.image_names(row)) if self.prompt.shows_images else 0
            return [(self.prompt.question(sample, count), "")]
        except BadSample:
            return []

    @property
    def scorers(self) -> dict[str, Any]:
        """Metric → what it is, data and packages of this machine included."""
        of_plugins = {plugin.name: plugin.protocol() for plugin in self.plugins}
        return scorers_of(self.metrics) | of_plugins

    def run(self, model: AnsweringModel) -> TaskResult:
        """Measure one model. Where torch.distributed runs, every rank writes its share and gets the whole result.

        Raises:
            TaskError: no text can be asked for, a plug-in gives no numbers, or prompt_set_metric is none of the metrics.
        """
        if self.prompt_sets:
            return self._sets().measure(self, model)
        model = self.prompting.prompted(model, _no_answer, self._examples_of, self.batch_size)
        pairs, bad = read_samples(
            self.dataset, rows_of(self.dataset, self.limit), lambda sample, row: self.prompt.group(sample, row, model)
        )
        excluded = sum((reasons for _, reasons in pairs), Counter[str]())
        groups = [group for group, reasons in pairs if not reasons]
        answers = ask(
            self, self.prompting, model, groups, self.prompt.max_new_tokens, lambda question: question.turns[-1].text
        )
        bad |= answers.bad
        excluded += answers.excluded
        if not answers.answered:
            raise TaskError(
                f"task {self.name}: no text can be asked for about {self.dataset.folder}; excluded: {dict(excluded)}, "
                f"unreadable: {dict(Counter(bad.values()))}; its samples have the text fields {self._text_fields()}"
            )
        groups, responses = answers.groups, answers.responses
        controls, notes = self._controls(model, groups)
        protocol = self._protocol(model, groups, excluded, bad)
        protocol["controls"] = {name: NOTES[name] for name in TEXT_CONTROLS if name in controls} | notes
        protocol |= response_notes(responses, controls, answers.not_taken)
        records = self._records(groups, responses, controls, protocol)
        records = marked(records, [group.key for group in groups], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def _sets(self) -> PromptSets:
        """Chosen by one metric; what costs time and does not decide is computed for the chosen set alone."""
        name = self.prompt_set_metric or ("rouge_l" if "rouge" in self.metrics else "")
        deciding = [plugin for plugin in self.plugins if name.startswith(plugin.name)]

        def value_of(result: TaskResult) -> float:
            values = {metric.name: metric.value for metric in result.metrics}
            chosen_name = name or next(iter(values))
            if chosen_name not in values:
                raise TaskError(
                    f"task {self.name}: prompt_set_metric={name} is none of its metrics: {', '.join(values)}"
                )
            value = values[chosen_name]
            return -math.inf if math.isnan(value) else value * direction(chosen_name)

        metric = name or "value of the first metric"
        without = {"plugins": tuple(deciding)}
        return PromptSets(self.prompt_sets, self.prompt_set_keys, metric, value_of, MAIN["text"], without)

    def _records(
        self,
        groups: Sequence[QuestionGroup],
        responses: Sequence[Response],
        controls: Mapping[str, Sequence[Response]],
        protocol: dict[str, Any],
    ) -> list[dict[str, Any]]:
        documents = self._documents() if "cider_d" in self.metrics else []
        scorer = TextScorer(self.metrics, self.tokenization, documents)
        references = [group.questions[0].answers for group in groups]
        protocol["scorers"] = self.scorers
        if documents:
            protocol["cider_documents"] = len(documents)
        if "findings" in self.metrics:
            protocol["findings_limits"] = LIMITS
        scores_of = {
            name: [scorer.score(text.text, row) for text, row in zip(texts, references, strict=True)]
            for name, texts in {"": responses, **controls}.items()
        }
        further: list[dict[str, float | None]] = [{} for _ in groups]
        for plugin in self.plugins:
            for scores, row in zip(further, plugin.scores([r.text for r in responses], references), strict=True):
                scores |= row
            notes: dict[str, Any] = getattr(plugin.metric, "notes", dict)()
            protocol["scorers"] = protocol["scorers"] | {plugin.name: protocol["scorers"][plugin.name] | notes}
        return records_of(
            groups, responses, scores_of.pop(""), controls, scores_of, further, "findings" in self.metrics
        )

    def _controls(
        self, model: AnsweringModel, groups: Sequence[QuestionGroup]
    ) -> tuple[dict[str, list[Response]], dict[str, Any]]:
        """Texts by control, in the order of `TEXT_CONTROLS`, and what a protocol says of them."""
        texts: dict[str, list[Response]] = {}
        notes: dict[str, Any] = {}
        if EXCHANGED_REFERENCE in self.controls:
            try:
                donors = derangement([1] * len(groups), self.bootstrap.seed)
                texts[EXCHANGED_REFERENCE] = [Response(groups[row[0][0]].questions[0].target) for row in donors]
                notes["seed"] = self.bootstrap.seed
            except NoDerangement:
                notes["skipped"] = f"{EXCHANGED_REFERENCE}: there is one sample"
        image_texts, image_notes = self._image_controls(model, groups)
        skipped = [note["skipped"] for note in (notes, image_notes) if "skipped" in note]
        notes |= image_notes | ({"skipped": "; ".join(skipped)} if skipped else {})
        return texts | image_texts, notes

    def _image_controls(
        self, model: AnsweringModel, groups: Sequence[QuestionGroup]
    ) -> tuple[dict[str, list[Response]], dict[str, Any]]:
        if self.prompt.shows_images:
            return control_responses(
                self.controls,
                model,
                self.dataset,
                groups,
                self.bootstrap.seed,
                self.batch_size,
                self.prompt.max_new_tokens,
            )
        names = [name for name in self.controls if name != EXCHANGED_REFERENCE]
        return {}, {"skipped": f"{', '.join(names)}: the task shows no images"} if names else {}

    def _documents(self) -> list[list[str]]:
        """The references of every sample of the split that has any."""
        documents = []
        for item in items_of(self.dataset):
            if isinstance(item, BadSample):
                continue
            try:
                texts = self.prompt.texts_of(item.texts)
            except BadSample:
                continue
            documents += [texts] if texts else []
        return documents

    def _text_fields(self) -> list[str]:
        return sorted({name for item in items_of(self.dataset) if isinstance(item, Item) for name in item.texts})

    def _protocol(
        self,
        model: AnsweringModel,
        groups: Sequence[QuestionGroup],
        excluded: Counter[str],
        bad: Mapping[str, str],
    ) -> dict[str, Any]:
        counts = Counter(len(group.questions[0].answers) for group in groups)
        max_new_tokens = self.prompt.max_new_tokens
        return self.common_protocol(model, groups, excluded, bad, "sample", reason_in_words, max_new_tokens) | {
            "references": list(self.prompt.references),
            "references_per_sample": {str(count): counts[count] for count in sorted(counts)},
            "source": self.prompt.source,
            "shows_images": self.prompt.shows_images,
            "instruction": self.prompt.instruction,
            "tokenization": f"{self.tokenization}: {DESCRIPTIONS[self.tokenization]}",
            "tie_rule": "of several references the best one counts, the first of equals; in CIDEr-D their mean",
        }


def _no_answer(question: Question, scorer: str, response: str) -> None:
    """Texts have no votes."""
