"""Looking at a training's data without its weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from transformers import AddedToken

from medvlp.builders.clip import load_clip
from medvlp.builders.data import as_conversations, open_shards
from medvlp.builders.instruction import SELF_TESTED
from medvlp.builders.llava import encoder_for, encoder_identity
from medvlp.config import InstructConfig, LlavaConfig, TrainConfig, load_task
from medvlp.data.audit.problems import Finding, Problem
from medvlp.data.audit.rules import Rules, Seen, Together, look_at_shards
from medvlp.data.audit.token_costs import Measured
from medvlp.data.chat.encoder import IMAGE, ChatEncoder, self_test
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import DAMAGE, measured
from medvlp.data.chat.packing import shared_prefix
from medvlp.models.llava.language import load_language
from medvlp.models.llava.tower import Reduce, load_tower, tower_from_clip
from medvlp.shards import ShardDataset
from medvlp.shards.manifest import MANIFEST

Watch = Callable[[str, int, Iterable[Seen]], Iterable[Seen]]
"""(source, samples, what is looked at) → the same, while a person sees how far it is."""


def encoder_of(config: LlavaConfig) -> ChatEncoder:
    """The encoder of the assistant that a configuration describes, for which only tokenizer and configurations are read
    (and the checkpoint of a CLIP, where the tower is one's).

    Raises:
        ConfigError, WeightsError, CheckpointError: as in building the assistant.
    """
    tower = config.vision
    if tower.source.endswith(".ckpt"):
        tokens = tower_from_clip(load_clip(tower.source).clip, tower.feature_layer).tokens
    else:
        tokens = load_tower(tower.source, tower.size, feature_layer=tower.feature_layer, weights=False).tokens
    with torch.device("meta"):  # a language model without memory: its tokenizer is wanted
        _, tokenizer, _ = load_language(config.language.source, config.language.gguf, weights=False)
    if IMAGE not in tokenizer.get_vocab():
        tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    if config.reduce.kind:
        tokens = Reduce(config.reduce.kind, config.reduce.factor).tokens(tokens)  # type: ignore[arg-type]
    return encoder_for(tokenizer, tokenizer.get_vocab()[IMAGE], tokens, config.language)


def look_at_sources(config: TrainConfig, watch: Watch) -> Iterator[Finding]:
    """What is wrong with the samples of every source, by themselves and together.

    Raises:
        ShardError: a folder that cannot be read.
    """
    kind = config.objective.kind
    content = {"contrastive": "pairs", "instruct": "conversations"}.get(kind, "") if config.model.kind else ""
    for name, source in config.data.sources.items():
        dataset = open_shards(source.path)
        rules = Rules(content, source.text_fields, bool(source.caption_prompts), config.data.max_pixels)
        together = Together(content, {})
        for row, seen in enumerate(watch(name, len(dataset), look_at_shards(dataset, rules, config.data.workers))):
            shard, _ = dataset.locate(row)
            for problem in together.problems(seen):
                yield Finding(problem, name, str(dataset.folder / shard), seen.key)


def held_out_splits(config: TrainConfig) -> Iterator[ShardDataset]:
    """Splits that the run does not train on: those beside each source's, and those on which each task is scored, during
    training and after."""
    own = {Path(source.path).resolve() for source in config.data.sources.values()}
    tasks = [load_task(name) for name in config.tasks]
    folders = [Path(task.data, split).resolve() for task in tasks for split in (task.valid_split, task.split)]
    for folder in sorted(own):
        with suppress(PermissionError):  # folders of others beside one's own
            folders += [path.resolve() for path in sorted(folder.parent.iterdir())]
    for folder in dict.fromkeys(folders):
        with suppress(PermissionError):
            if folder not in own and (folder / MANIFEST).is_file():
                yield open_shards(str(folder))


def measure_sources(config: TrainConfig, encoder: ChatEncoder) -> list[Measured]:
    """The token table of every source, as training reads (and keeps) it."""
    assert isinstance(config.objective, InstructConfig)
    objective, identity, found = config.objective, encoder_identity(encoder), []
    for name, source in config.data.sources.items():
        shown = as_conversations(open_shards(source.path), source)
        lengths = measured(shown, encoder, objective.max_length, objective.too_long, shared_prefix, identity)
        found.append(Measured(name, source.weight, shown, lengths))
    return found


def token_findings(source: Measured, encoder: ChatEncoder, max_length: int) -> Iterator[Finding]:
    """What tokens show to be wrong. Conversations that have another fault too are among them."""
    notes = [*source.lengths.faults, *(one for one in source.lengths.left_out if one.reason not in DAMAGE)]
    dataset = source.dataset
    rows = {dataset.key(row): row for row in range(len(dataset))} if notes else {}
    for one in notes:
        shard, _ = dataset.locate(rows[one.key])
        problem = Problem(one.reason, one.conversation, one.detail)
        yield Finding(problem, source.name, str(dataset.folder / shard), one.key)
    examples = Examples(dataset, source.lengths, encoder, max_length, grouped=False)
    if not len(examples):
        problem = Problem("nothing_left", "", f"{len(notes)} entries were left out")
        yield Finding(problem, source.name, str(dataset.folder), "")
        return
    try:
        self_test(encoder, [examples.read(i) for i in range(min(SELF_TESTED, len(examples)))])
    except ValueError as error:
        yield Finding(Problem("wrong_supervision", "", str(error)), source.name, str(dataset.folder), "")
