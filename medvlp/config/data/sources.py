"""Options of training data: the blend of sources, how they are shuffled, read and cropped."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from omegaconf import MISSING

from medvlp.combinations import ItemFilter, filter_of
from medvlp.config.data.augment import AugmentConfig
from medvlp.config.data.remote import RemoteConfig
from medvlp.config.rules import ConfigError, at_least, check_name, not_negative, one_of, share, suggestion
from medvlp.selection import Conditions
from medvlp.wording.joined import JoinedTemplate


@dataclass(kw_only=True)
class SourceConfig:
    """One prepared dataset in a training blend."""

    path: str = MISSING
    """Folder of one split, as `medvlp prep` or `medvlp index` writes it: the one that holds manifest.json. Or its address:
    http(s)://, s3://, gs:// or hf://."""
    shards: str = ""
    """Folder or address of the tars, where they are not next to the manifest nor where `medvlp index` read them."""
    weight: float = 1.0
    """Passes over this source in one epoch: 2 shows every sample twice, 0.5 another half each epoch."""
    text_fields: list[str] = field(default_factory=lambda: ["caption*"])
    """Text fields to train on; `caption*` is all captions of a sample (`caption`, `caption_1`, …), `caption` the first alone.
    Of several that a sample has, one is sampled by seed, epoch and position; instruct asks for each."""
    text_weights: dict[str, float] = field(default_factory=dict)
    """contrastive: how likely each of text_fields (or of text_templates, by name) is, next to the others that a sample has, e.g.
    `{caption*: 3, references: 1}`; empty: all texts alike."""
    text_templates: dict[str, str] = field(default_factory=dict)
    """contrastive: by name, texts joined of several fields, instead of text_fields, e.g. `{joined: "{caption}[ {references}]"}`;
    `{label.<name>}` and `{metadata.<name>}` too. What stands in brackets is left out where a field in it is empty; a template is
    where one outside of brackets is. Of those that can be filled, one is sampled each time."""
    label_captions: str = ""
    """contrastive: the label, or else the metadata, that is trained on as captions, instead of text_fields."""
    label_templates: str = "generic"
    """Sentences of label_captions: a name under configs/templates, or a .yaml file. Each makes a text; one is sampled."""
    several_images: str = ""
    """contrastive: what becomes of samples of several images: one (one of them, another in every epoch), all (together one
    example; model.image_pool says how), each (every image with the texts, by itself); empty: they are bad samples."""
    max_images: int = 8
    """Of a sample of more images, so many are sampled each time, where all make one example."""
    only: list[dict[str, Any]] = field(default_factory=list)
    """Combinations of labels and metadata that are trained on, `[{modality: CT, organ: [liver, spleen]}, {site: 3}]`; empty:
    all."""
    exclude: list[dict[str, Any]] = field(default_factory=list)
    """Combinations that are held out, likewise; the checkpoint's card states them, and `medvlp eval` gives the scores on them
    (unseen) next to those on the others (seen)."""
    where: list[str] = field(default_factory=list)
    """Conditions on columns of samples.parquet and of score tables, all of which hold for what is trained on:
    `["width >= 224", "modality in (CT, MR)", "top 30% by similarity"]`. Their grammar: docs/data.md."""
    scores: list[str] = field(default_factory=list)
    """Score tables of `where`, or folders of them, besides those next to the shards (`<split>/scores`)."""
    caption_prompts: list[str] = field(default_factory=list)
    """instruct: for samples without conversations, questions that their texts answer; the sample's key chooses one."""
    questions_as: str = ""
    """instruct: a task of kind vqa in whose words questions are trained: multiple choice with its options and the letter as the
    answer, the others with its instruction, e.g. medqa."""
    question_template: str = ""
    """instruct: what each last question becomes, e.g. `{question} It is about the {organ}.`; `{name}` is a field of the
    conversation's metadata. Boxes stand in the question itself, as `<box>` (docs/boxes.md)."""
    answer_template: str = ""
    """instruct: what each last answer becomes, e.g. `{rationale} The answer: {answer}`."""

    def check(self, name: str) -> None:
        """Rules of one source, known by its name in the blend. Raises ConfigError."""
        check_name("data.sources", name)
        if not 0 < self.weight < float("inf"):
            raise ConfigError(
                f"data.sources.{name}.weight={self.weight} must be above 0, and a number; drop the source instead"
            )
        if not self.text_fields:
            raise ConfigError(f"data.sources.{name}.text_fields is empty; name a text field, e.g. [caption]")
        for key, template in (("question_template", self.question_template), ("answer_template", self.answer_template)):
            if "{box}" in template or "{boxes}" in template:
                raise ConfigError(
                    f"data.sources.{name}.{key} names {{box}}: boxes are written in the model's form (objective.box_form), where "
                    f"<box> stands in the data; prepare them again, so that it does, and leave it out here"
                )
        self._check_texts(name)
        one_of(f"data.sources.{name}.several_images", self.several_images, ("", "one", "all", "each"))
        at_least(f"data.sources.{name}.max_images", self.max_images, 1)
        if self.max_images != SourceConfig().max_images and self.several_images != "all":
            raise ConfigError(
                f"data.sources.{name}.max_images has no effect without data.sources.{name}.several_images=all"
            )
        self.item_filter(name)
        self.conditions.check(f"data.sources.{name}.where")

    def _check_texts(self, name: str) -> None:
        """One way to texts, and weights of what there is."""
        key = f"data.sources.{name}"
        ways = {
            "text_fields": self.text_fields != SourceConfig().text_fields,
            "text_templates": bool(self.text_templates),
            "label_captions": bool(self.label_captions),
        }
        if len(names := [way for way, is_taken in ways.items() if is_taken]) > 1:
            raise ConfigError(f"{key}: {names[0]} and {names[1]} both say which texts are trained on; keep one of them")
        if self.label_templates != SourceConfig().label_templates and not self.label_captions:
            raise ConfigError(f"{key}.label_templates has no effect without label_captions, which names the label")
        self.templates(name)
        choices = list(self.text_templates or ([] if self.label_captions else self.text_fields))
        for choice, weight in self.text_weights.items():
            if choice not in choices:
                group = "text_templates" if self.text_templates else "text_fields"
                raise ConfigError(
                    f"{key}.text_weights names {choice!r}, which is none of {group}{suggestion(choice, choices)} There are: "
                    f"{', '.join(choices) or 'none, as label_captions gives all sentences alike'}"
                )
            if not 0 < weight < float("inf"):
                raise ConfigError(f"{key}.text_weights.{choice}={weight} must be above 0; leave the text out instead")
        if self.text_weights and (bare := [choice for choice in choices if choice not in self.text_weights]):
            raise ConfigError(f"{key}.text_weights has no weight of {bare[0]!r}; it names all texts, or none")

    def templates(self, name: str) -> dict[str, JoinedTemplate]:
        """text_templates, read. Raises TemplateError."""
        key = f"data.sources.{name}.text_templates"
        return {title: JoinedTemplate.read(text, f"{key}.{title}") for title, text in self.text_templates.items()}

    @property
    def keys_of_pairs(self) -> list[str]:
        """Those of its keys that are set and make pairs of samples."""
        names = ("text_templates", "label_captions", "text_weights", "several_images")
        return [name for name in names if getattr(self, name)]

    @property
    def is_remote(self) -> bool:
        """Whether `path` is an address."""
        return "://" in self.path

    def item_filter(self, name: str) -> ItemFilter:
        """What is trained on of the source. Raises CombinationError."""
        return filter_of({"only": self.only, "exclude": self.exclude}, f"data.sources.{name}")

    @property
    def conditions(self) -> Conditions:
        """What holds for every sample that is trained on."""
        return Conditions(tuple(self.where), tuple(self.scores))


@dataclass(kw_only=True)
class DataConfig:
    """What is trained on, and how it is read."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """The blend by name; `data=[roco,quilt]` joins two options, `data.sources.a.weight=2` changes one."""
    shares: dict[str, float] = field(default_factory=dict)
    """Shares of an epoch's samples by source, `data.shares.roco=3 data.shares.quilt=1`, instead of weights: of all sources, in
    any unit. An epoch then has as many samples as the sources have together, after all that is dropped or held out."""
    global_batch_size: int = 64
    """Samples in one optimizer step, over all ranks and accumulated batches."""
    workers: int = 2
    """Loader processes a rank. Neither the order nor the augmentation depends on it."""
    shuffle_block: int = 0
    """Neighbouring samples that stay close in the order, for disks and networks where random reads are slow; 0 shuffles sample
    by sample. About the samples of a shard is a good block."""
    shuffle_window: int = 64
    """Blocks mixed with each other when shuffle_block is set: so many shards are in use at once."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    max_bad_fraction: float = 0.01
    """Share of distinct samples that may be unreadable before the run stops."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are bad samples (a decompression bomb's defence)."""
    log_samples: bool = False
    """Write the keys of every step to samples.jsonl."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def check(self) -> None:
        """Rules of the blend and of how it is read. Raises ConfigError."""
        at_least("data.global_batch_size", self.global_batch_size, 1)
        at_least("data.max_pixels", self.max_pixels, 1)
        at_least("data.shuffle_window", self.shuffle_window, 1)
        not_negative("data.workers", self.workers)
        not_negative("data.shuffle_block", self.shuffle_block)
        share("data.max_bad_fraction", self.max_bad_fraction)
        if not self.sources:
            raise ConfigError("data.sources is empty; choose prepared data with data=<option> or a recipe")
        for name, source in self.sources.items():
            source.check(name)
        self._check_shares()
        self.augment.check()
        self.remote.check()

    def _check_shares(self) -> None:
        """Each source has a share, and nothing else has."""
        if not self.shares:
            return
        names = ", ".join(self.sources)
        for name, value in self.shares.items():
            if name not in self.sources:
                close = get_close_matches(name, self.sources, n=1)
                hint = f"; did you mean {close[0]}?" if close else "."
                raise ConfigError(f"data.shares names {name}, which is no source{hint} Sources: {names}")
            if not 0 < value < float("inf"):
                raise ConfigError(f"data.shares.{name}={value} must be above 0; drop the source instead")
        for name, source in self.sources.items():
            if name not in self.shares:
                raise ConfigError(f"data.shares has no share of {name}; it names all sources, or none: {names}")
            if source.weight != 1:
                raise ConfigError(
                    f"data.sources.{name}.weight={source.weight} and data.shares.{name}={self.shares[name]} both say how often "
                    f"{name} is shown; keep one of them"
                )
