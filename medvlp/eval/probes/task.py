"""Linear probes, few-shot probes and nearest neighbours on stored embeddings.

Legend: N samples, E draws, C classes, L labels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from medvlp.config import ProbeConfig
from medvlp.data.labels import WILDCARD, ClassLabels
from medvlp.distributed import on_all_ranks
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.classification.records import class_counts
from medvlp.eval.embeddings import CachedEncoder, ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.multi_label.targets import class_names, no_target_message, refuse_slips
from medvlp.eval.probes.draws import hold_out
from medvlp.eval.probes.fitting import Fitted, Probing
from medvlp.eval.probes.records import FULL, NEIGHBOURS, fitting_lines, probe_protocol, probe_records
from medvlp.eval.probes.samples import LabelledSamples, labelled_samples
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult, TaskSettings, task_protocol, validation_split
from medvlp.eval.trained import Trained, marked
from medvlp.shards import ShardDataset


@dataclass(frozen=True)
class Probe:
    """Classifiers on frozen embeddings: logistic regression on all of a training split (the linear probe of CLIP, Radford
    2021), the same on draws of a few samples a class, and kNN.

    Embeddings are those that the model gives: unit vectors, not standardised. Samples of train that share a group or an
    image's bytes with valid or with the scored split are not fitted.
    """

    kind: ClassVar[str] = "probe"
    version: ClassVar[int] = 2

    config: ProbeConfig
    dataset: ShardDataset
    train: ShardDataset
    """What is fitted."""
    valid: ShardDataset | None = None
    """On which C and the number of neighbours are chosen; None holds a part of train out for that."""
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    trained: Trained | None = None
    """What of the scored split the model was trained on, where that was looked for."""

    @property
    def name(self) -> str:
        """As in results.jsonl."""
        return self.config.name

    @classmethod
    def needs(cls, config: ProbeConfig) -> tuple[str, ...]:
        """Embeddings of images."""
        return ("encode_image",)

    @classmethod
    def uses(cls, config: ProbeConfig) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @classmethod
    def from_config(cls, config: ProbeConfig, dataset: ShardDataset, settings: TaskSettings) -> Self:
        """The task of a configuration. In training, the linear probe alone.

        Raises:
            TaskError: there is no split to fit, or it is the one that is scored.
        """
        folder = Path(config.data) / config.train_split
        if dataset.manifest.split == config.train_split:
            raise TaskError(
                f"task {config.name}: split {config.train_split!r} is fitted, and cannot be scored; give another split"
            )
        if not folder.exists():
            raise TaskError(
                f"task {config.name}: a probe is fitted on labelled samples, and {folder} is not there; prepare that split, or "
                f"name another under train_split"
            )
        if settings.in_training:
            config = replace(config, shots=[], neighbours=[])
        return cls(config, dataset, ShardDataset(folder), validation_split(config, dataset), settings.bootstrap)

    def run(self, model: CachedEncoder) -> TaskResult:
        """Measure one model.

        Raises:
            TaskError: no sample has a label, a class has no sample to fit, or none to choose on.
        """
        images, probing = model.images(self.dataset), self.probing(model)
        scored, classes = probing.scored, probing.classes
        fits = self._fit(probing)

        protocol = task_protocol(self, model, images, list(scored.items), scored.excluded)
        protocol |= {
            "fitted_on": self._split(self.train, probing.fit, classes),
            "chosen_on": self._split(self.valid, probing.valid, classes),
            **probe_protocol(probing, fits),
            "exclusions": exclusion_lines(scored.excluded, images.bad_counts(), "sample", len(scored))
            + fitting_lines(probing, self.train.manifest.split),
        }
        records = marked(probe_records(probing, fits), [item.key for item in scored.items], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def probing(self, model: CachedEncoder) -> Probing:
        """A model's labelled embeddings of all splits. Raises TaskError: as `run`."""
        images, train_images = model.images(self.dataset), model.images(self.train)
        classes = self.config.classes or class_names(train_images.items, self.config.label, self.config.exclude)
        scored = self._samples(images, self.dataset, classes)
        train = self._samples(train_images, self.train, classes)
        valid = self._samples(model.images(self.valid), self.valid, classes) if self.valid else None
        return self._apart(train, valid, scored, classes)

    def _samples(self, images: ImageEmbeddings, dataset: ShardDataset, classes: Sequence[str]) -> LabelledSamples:
        config = self.config
        labels = ClassLabels(config.label, tuple(classes), config.multi_label, (WILDCARD,))
        samples = labelled_samples(images, dataset, labels, config.exclude)
        if not len(samples):
            lack = f"no sample of {dataset.folder} has {config.label!r} among {list(classes)}"
            raise TaskError(no_target_message(self.name, lack, samples.excluded, samples.strangers, images.items))
        refuse_slips(self.name, dataset.folder, classes, samples.target_NL, samples.strangers, config.exclude)
        return samples

    def _apart(
        self, train: LabelledSamples, valid: LabelledSamples | None, scored: LabelledSamples, classes: Sequence[str]
    ) -> Probing:
        """What is fitted, chosen on and scored, none of which shares a group or an image with another."""
        fit = train.apart_from(scored)
        if valid is not None:
            valid = valid.apart_from(scored)
            fit = fit.apart_from(valid)
        else:
            is_valid_N = hold_out(fit.items, fit.target_NL, self.config.holdout, self.config.seed)
            valid = fit.take(is_valid_N)
            fit = fit.take(~is_valid_N).apart_from(valid)
        if len(classes) < 2:
            raise TaskError(f"task {self.name}: classes {list(classes)} of {self.train.folder}: expected two or more")
        self._refuse_missing(train, fit, classes)
        positive = self.config.positive
        if positive and (positive not in classes or len(classes) != 2):
            raise TaskError(
                f"task {self.name}: positive={positive!r}, expected one of two classes; found {list(classes)}"
            )
        counts_L = (valid.target_NL == 1).sum(axis=0), (valid.target_NL == 0).sum(axis=0)
        if not len(valid) or (self.config.multi_label and not np.minimum(*counts_L).any()):
            source = self.valid.folder if self.valid else f"the share {self.config.holdout:g} of {self.train.folder}"
            raise TaskError(
                f"task {self.name}: {source} has no labels to choose C on; give another valid_split or holdout"
            )
        return Probing(self.config, classes, fit, valid, scored)

    def _refuse_missing(self, train: LabelledSamples, fit: LabelledSamples, classes: Sequence[str]) -> None:
        """Raises TaskError where a class has no sample to fit, or none any more."""
        count_2L = [(samples.target_NL == 1).sum(axis=0).tolist() for samples in (train, fit)]
        missing = {name: count for name, count, fitted in zip(classes, *count_2L, strict=True) if not fitted}
        if not missing:
            return
        message = f"task {self.name}: classes {list(missing)} of {self.train.folder}: no sample to fit"
        count_of = {name: count for name, count in missing.items() if count}
        if not count_of:
            raise TaskError(f"{message}; leave them out of classes")
        choice = self.valid.folder if self.valid else f"the share {self.config.holdout:g} of train to choose on"
        raise TaskError(
            f"{message}: all of {count_of} share a group (patient, article) or an image with {self.dataset.folder} or {choice}; "
            f"give splits that share none, or leave them out of classes"
        )

    def _fit(self, probing: Probing) -> dict[str, Fitted]:
        """All fits, shared between the ranks: number of shots, or `full` and `neighbours`, → what it gave."""
        work: dict[str, Callable[[], Fitted]] = {FULL: probing.full}
        work |= {str(shots): lambda shots=shots: probing.few_shot(shots) for shots in sorted(self.config.shots)}  # type: ignore[misc]
        work |= {NEIGHBOURS: probing.neighbours} if self.config.neighbours else {}
        return dict(zip(work, on_all_ranks(list(work), lambda name: work[name]()), strict=True))

    def _split(self, dataset: ShardDataset | None, samples: LabelledSamples, classes: Sequence[str]) -> dict[str, Any]:
        """Of a protocol: the split that samples are from; None: a part of train, held out."""
        return {
            "split": dataset.manifest.split if dataset else f"{self.config.holdout:g} of {self.config.train_split}",
            "split_hash": (dataset or self.train).manifest_hash,
            "n": len(samples),
            "class_counts": class_counts(classes, samples.target_NL, self.config.multi_label),
        }
