"""Which pairs stand in a batch together, and which are right for each other."""

import os
from collections.abc import Sequence
from contextlib import suppress

from medvlp.config import ConfigError, ContrastiveConfig, TrainConfig
from medvlp.data.dataset import Dataset
from medvlp.data.order import Order
from medvlp.data.plan import ApartPlan, Plan, SamplePlan
from medvlp.data.texts import class_value, components
from medvlp.shards import BadSample

PROBED = 200
"""Samples of a source in which a label is looked for before a run starts."""


def pairs_plan(config: TrainConfig, order: Order, sources: Sequence[Dataset]) -> Plan:
    """Sample by sample; with objective.same_text=apart, equal texts in different batches.

    Raises:
        ConfigError: objective.positives joins none of the first samples.
    """
    objective, batch = config.objective, config.data.global_batch_size
    assert isinstance(objective, ContrastiveConfig)
    if objective.positives:
        check_positives(objective.positives, sources)
    if objective.same_text != "apart":
        return SamplePlan(order)
    texts = [source.text_fields for source in config.data.sources.values()]
    plan = ApartPlan(order, components(sources, texts), batch)
    repeats = plan.repeats() if len(order) >= batch else 0
    if repeats and os.environ.get("RANK", "0") == "0":
        print(
            f"note: objective.same_text=apart: {repeats} of {len(order)} samples of an epoch meet another of their text in their "
            f"batch, since more share a text than an epoch has batches ({len(order) // batch}); they are masked there",
            flush=True,
        )
    return plan


def check_positives(positives: str, sources: Sequence[Dataset]) -> None:
    """Raises ConfigError unless some of the first samples have what makes pairs right for each other."""
    names: set[str] = set()
    for source in sources:
        for row in range(min(len(source), PROBED)):
            with suppress(BadSample):
                sample = source.read(row)
                if class_value(sample, positives):
                    return
                names |= set(sample.labels)
    has = f"its labels are {', '.join(sorted(names))}" if names else "it has no labels"
    raise ConfigError(f"objective.positives={positives}: none of the first samples of the data has it; {has}")
