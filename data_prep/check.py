"""What `medvlp check` finds in a publisher's files, and of held-out splits in what is trained on."""

from collections import Counter
from collections.abc import Iterator, Sequence

from data_prep.dedup.trained import trained_on
from data_prep.draft import Draft, Drop
from data_prep.errors import PrepError
from data_prep.plan import unit_stages
from data_prep.readers.fields import fields_ignored
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.stages import apply_stages, build_stages
from medvlp.config import CheckConfig, PrepConfig
from medvlp.data.audit.problems import Problem
from medvlp.data.audit.rules import Rules, SourceAudit, audit_sample
from medvlp.data.texts import FieldTexts
from medvlp.report.dataset.leakage import Leakage
from medvlp.shards import ShardDataset

TRAINED = {"bytes": "the same bytes are trained on", "picture": "the same picture is trained on"}


def file_problems(config: CheckConfig) -> Iterator[Problem]:
    """Problems that a source's reader and the preparation's stages find in a publisher's files, and those of the samples.

    Raises:
        PrepError: an unknown source, or an input that is not its.
    """

    def problem(name: str, detail: str, key: str) -> Problem:
        return Problem(name, "", detail, config.source, config.input, key)

    reader = open_source(config.source, config.input, flag=config.flag, options=config.options)
    limits = PrepConfig(source=config.source, max_pixels=config.data.max_pixels, modality=False, duplicates="off")
    stages = build_stages([stage for stage in unit_stages(limits, reader) if stage["stage"] != "measure"])
    rules = Rules("", FieldTexts(("caption*",)), questions=False, max_pixels=0)  # the stages open the images
    audits: dict[str, SourceAudit] = {}
    held_out: dict[str, tuple[str, str]] = {}
    ignored: Counter[str] = Counter()
    try:
        for unit in reader.units():
            if unit.split not in audits:  # units come split by split
                for split, audit in audits.items():
                    held_out.update({image: (split, key) for image, key in audit.images.items()})
                audits[unit.split] = SourceAudit("", dict(held_out))
            for item in reader.read(unit):
                if isinstance(item, Dropped):
                    yield problem(item.reason, item.detail, item.name)
                    continue
                for result in apply_stages(stages, Draft(item)):
                    if isinstance(result, Drop):
                        yield problem(result.reason, result.detail, item.key)
                        continue
                    for sample_problem in audits[unit.split].problems(audit_sample(result.sample, rules)):
                        yield sample_problem.at(config.source, config.input, item.key)
            ignored.update(fields_ignored(reader.counts))
    except PrepError as error:
        yield problem("unreadable_input", str(error), "")
    if ignored:
        rows = (f"{name} in {number} row{'s' * (number != 1)}" for name, number in ignored.most_common())
        yield problem("ignored_fields", ", ".join(rows), "")


def leaked_samples(train: Sequence[ShardDataset], held_out: ShardDataset) -> tuple[str, list[Problem]]:
    """A sentence about the samples of a held-out split of which an image is trained on, and a problem for each."""
    matches = trained_on(train, held_out)
    name = f"{held_out.folder.parent.name}/{held_out.folder.name}"
    kinds = list(matches.values())
    problems = []
    for row, key in enumerate(held_out.keys if matches else []):
        if key in matches:
            shard, _ = held_out.locate(row)
            problem = Problem("shared_image", "", f"of {name}; {TRAINED[matches[key]]}")
            problems.append(problem.at(name, str(held_out.folder / shard), key))
    return Leakage(name, len(held_out), kinds.count("bytes"), kinds.count("picture")).sentence, problems
