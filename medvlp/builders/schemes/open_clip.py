"""Models of `open_clip:` names: its architectures with published weights, a file's or random ones; folders; the hub's."""

from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import constants
from open_clip.factory import _find_checkpoint_in_dir as weights_in
from open_clip.pretrained import download_pretrained, download_pretrained_from_hf, get_pretrained_cfg

from medvlp.builders.models import ModelKind
from medvlp.config import EvalConfig
from medvlp.config.model_names import ModelName
from medvlp.eval.embeddings import CachedEncoder, DeferredEncoder
from medvlp.eval.store.embeddings import embedding_store
from medvlp.models.clip.model import Clip, ClipEncoder, execution_on
from medvlp.models.clip.sources import named, named_description, named_text_files
from medvlp.models.digests import FileFacts, content_identity, sha256_of
from medvlp.models.weights import WeightsError, first_line, refuse_overwritten, resolve, weights_hash

HUB = "hf-hub:"
DESCRIPTION = "open_clip_config.json"
SEED = 0
"""Of random weights, which are so the same in every process."""


class OpenClipModel:
    """A `NamedModel` of open_clip.

    reference: as open_clip itself names it: an architecture, a JSON file, `local-dir:<folder>` or `hf-hub:<name>`.
    """

    def __init__(self, name: ModelName) -> None:
        self.text, self.tag, self.reference, self.folder = name.text, name.revision, name.target, None
        is_name = name.target.startswith(HUB) or name.target in open_clip.list_models()
        if not is_name and Path(name.target).is_dir():
            self.folder, self.reference = Path(name.target), f"local-dir:{name.target}"

    def kind(self) -> ModelKind:
        """A CLIP model, if its description can be read and its weights have a known name. Raises WeightsError."""
        self._description()
        return ModelKind("a CLIP model", CachedEncoder.offers)

    def identity(self, facts: FileFacts) -> str:
        """Hash of the description, of the weights' file, and of what turns texts into ids. Raises WeightsError."""
        description = self._description()
        weights = self._weights()
        if weights is None:
            clip = self.clip()
            return content_identity([weights_hash(clip.model.state_dict()), description, clip.preprocess])
        preprocess: Any = {key: value for key, value in self._published().items() if key not in ("url", "hf_hub")}
        if self.folder:
            preprocess = sha256_of(self.folder / DESCRIPTION, facts)
        elif self.reference.startswith(HUB):
            preprocess = sha256_of(self._from_hub(DESCRIPTION), facts)
        files, _ = named_text_files(self.reference, description["text_cfg"])
        return content_identity([sha256_of(weights, facts), description, preprocess, files])

    def origin(self) -> dict[str, Any]:
        """{"untrained"} of an architecture alone, {"random_parts"} where its text tower has published weights; {} of others.

        Raises:
            WeightsError: no such architecture.
        """
        if self.folder or self.tag or self.reference.startswith(HUB):
            return {}
        text_tower = self._description()["text_cfg"].get("hf_model_name")
        if text_tower:
            return {"random_parts": f"all but the text tower {text_tower}, seed {SEED}"}
        return {"untrained": f"random weights, seed {SEED}"}

    def open(self, device: str, config: EvalConfig) -> CachedEncoder:
        """The model on a device. Raises WeightsError."""
        store = embedding_store(config.cache)
        facts = FileFacts(store.folder.root if store else None)
        identity = self.identity(facts)

        def load() -> ClipEncoder:
            clip = self.clip()
            if self._weights() is not None:  # random ones are nobody's to overwrite
                refuse_overwritten(self.text, identity, self.identity(facts))
            clip.model.to(device)
            return ClipEncoder(clip, device, identity).folded()

        encoder = DeferredEncoder(identity, execution_on(device), load)
        return CachedEncoder(encoder, config.batch_size, config.workers, config.max_pixels, store)

    def clip(self) -> Clip:
        """The model in evaluation mode, on the CPU. Raises WeightsError."""
        self._description()
        self._weights()  # open_clip goes on with random weights where a folder or the hub has none
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            clip = named(self.reference, self.tag, origin=self.text)
        clip.model.eval()
        return clip

    def _published(self) -> dict[str, Any]:
        """What open_clip says of the tag's weights; nothing where it names none of them."""
        return dict(get_pretrained_cfg(self.reference, self.tag)) if self.tag else {}

    def _description(self) -> dict[str, Any]:
        """The architecture, whose weights have a known name.

        Raises:
            WeightsError: nothing there, an unknown tag, or weights that belong to another architecture.
        """
        if self.folder and not (self.folder / DESCRIPTION).is_file():
            scheme = "hf:" if (self.folder / "config.json").is_file() else ""
            hint = f"; write {scheme}{self.folder}" if scheme else ""
            raise WeightsError(f"{self.text}: the folder has no {DESCRIPTION}, as open_clip's folders have{hint}")
        if self.reference.startswith(HUB):
            if self.tag:
                repository = self.reference.removeprefix(HUB)
                raise WeightsError(
                    f"{self.text}: open_clip takes the hub's newest revision only. Download the other one "
                    f"(hf download {repository} --revision {self.tag} --local-dir <folder>), and name open_clip:<folder>"
                )
            self._from_hub(DESCRIPTION)
        description = named_description(self.reference, self.text)
        if self.folder and self.tag:
            raise WeightsError(f"{self.text}: a folder has weights of its own, without @{self.tag}")
        if self.tag and not self._published() and not Path(resolve(self.tag)).is_file():
            tags = open_clip.list_pretrained_tags_by_model(self.reference)
            near = [tag for tag in tags if tag.startswith(self.tag)] or tags or ["it has none"]
            raise WeightsError(
                f"{self.text}: {self.tag!r} is neither a file nor one of the architecture's tags: {', '.join(near)}"
            )
        if self._published().get("quick_gelu", False) and not description.get("quick_gelu", False):
            raise WeightsError(
                f"{self.text}: these weights were trained with QuickGELU: open_clip:{self.reference}-quickgelu@{self.tag}"
            )
        return description

    def _weights(self) -> Path | None:
        """The weights' file, fetched if it has to be; None where random weights are meant.

        Raises:
            WeightsError: none there, or a hub that cannot be reached.
        """
        if self.folder:
            if path := weights_in(self.folder):
                return Path(path)
            raise WeightsError(f"{self.text}: no weights in the folder (open_clip_model.safetensors)")
        if self.reference.startswith(HUB):
            return self._from_hub(None)
        published = self._published()
        if not published:
            return Path(resolve(self.tag)) if self.tag else None
        try:
            return Path(download_pretrained(published))
        except Exception as error:  # of the network, of the hub's client, of open_clip
            repository, url = published.get("hf_hub", ""), published.get("url", "")
            origin = f"https://huggingface.co/{repository.rstrip('/')}" if repository else url
            raise WeightsError(unreachable(self.text, origin, error, "" if repository else "~/.cache/clip")) from None

    def _from_hub(self, file: str | None) -> Path:
        """A file of the hub's repository; by default its weights. Raises WeightsError."""
        repository = self.reference.removeprefix(HUB)
        try:
            return Path(download_pretrained_from_hf(repository, file))
        except Exception as error:
            origin = f"https://huggingface.co/{repository} ({file or 'open_clip_model.safetensors'})"
            folder_hint = " Or put the repository's files into a folder and name open_clip:<folder>."
            raise WeightsError(unreachable(self.text, origin, error, "") + folder_hint) from None


def unreachable(text: str, origin: str, error: Exception, folder: str) -> str:
    """What to say of weights that cannot be fetched. folder: where they are looked for; "" for the hub's cache."""
    target = folder or f"HF_HOME ({constants.HF_HOME}), as `hf download` does"
    return (
        f"{text}: {origin} is not on this machine and cannot be fetched ({first_line(error)}). Without a way to it, download "
        f"it elsewhere and put it into {target}."
    )
