"""Options of `medvlp index`: what in the tars of others is a caption, a licence, a group."""

import os
from dataclasses import dataclass, field

from medvlp.config.data.remote import RemoteConfig
from medvlp.config.rules import at_least, check_name, one_of

DOTS = ("last", "first")


@dataclass(kw_only=True)
class IndexConfig:
    """medvlp index"""

    verb: str = "index"
    """The command."""
    out: str = ""
    """Folder of index, table and manifest; default: the folder of the tars, if it is on this disk. The tars stay as they are."""
    name: str = ""
    """Of the source, which begins every key; default: the name of the tars' folder."""
    split: str = "train"
    """Name of the split that the tars are."""
    caption: list[str] = field(default_factory=list)
    """Where captions are: extensions of members (txt, caption), or fields of the JSON (json.title, json.meta.caption). All that a
    sample has become caption, caption_1, …. Empty: the first that there is of txt, caption, json.caption, json.text."""
    split_at: list[str] = field(default_factory=list)
    """Marker words between several captions in one text: [_chexpert_,_mimiccxr_] for parts of UniMed. Each becomes a caption."""
    texts: dict[str, str] = field(default_factory=dict)
    """Other texts by name, likewise: texts.references=json.refs."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels by name: labels.kind=json.primary_label."""
    licence: str = ""
    """Field of the JSON with each sample's licence (json.license), or the licence of all (CC-BY-4.0); empty: unknown."""
    modality: str = ""
    """Likewise: json.modality, or CT."""
    group: str = ""
    """Field of the JSON that samples of one article or patient share: json.pmcid."""
    dots: str = "last"
    """Dot of a member's name at which its extension begins: last, or first as webdataset has it (for several images a sample)."""
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    """Tars indexed at once, each in a process."""
    remote: RemoteConfig = field(default_factory=RemoteConfig)

    def check(self) -> None:
        """Names and ranges. Raises ConfigError."""
        check_name("split", self.split)
        if self.name:
            check_name("name", self.name)
        one_of("dots", self.dots, DOTS)
        at_least("workers", self.workers, 1)
        self.remote.check()
