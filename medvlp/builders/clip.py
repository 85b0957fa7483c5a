"""CLIP from its configuration, and from a checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medvlp.builders.schemes.open_clip import OpenClipModel
from medvlp.config import ClipConfig, ConfigError, TrainConfig, from_dict
from medvlp.config.model_names import ModelName
from medvlp.models.clip.image_pool import NAME as POOL
from medvlp.models.clip.image_pool import loaded_pool
from medvlp.models.clip.model import Clip, preprocess_settings
from medvlp.models.clip.sources import architecture, composed, from_description, named
from medvlp.models.clip.text_tower import text_files
from medvlp.models.clip.trial import try_towers
from medvlp.models.weights import DAMAGE, WeightsError, files_hash, first_line, resolve, weights_hash
from medvlp.training.checkpoints import CheckpointError, load_checkpoint


def build_clip(config: ClipConfig) -> Clip:
    """The CLIP model that a configuration describes, tried on one image and one text of the whole context.

    Raises:
        WeightsError: a name, weights, a size or a length that do not fit.
    """
    image, vision, text = config.image, config.vision, config.text
    changes = {key: value for key, value in vars(image).items() if value is not None}
    if config.name:
        clip = named(config.name, config.pretrained, text.context_length, changes, positions=text.positions)
        try_towers(clip)
        return clip
    model_cfg = architecture(
        vision.timm,
        vision.pool,
        vision.proj,
        text.huggingface,
        text.pooler,
        text.proj,
        text.context_length or 128,
        config.embed_dim,
        image.size or 224,
        config.temperature,
    )
    preprocess = preprocess_settings(**changes)
    clip = composed(model_cfg, vision.weights, text.pretrained, text.huggingface, preprocess)
    try_towers(clip)
    return clip


@dataclass
class Loaded:
    """A checkpoint, ready for use.

    clip: the model in eval mode with its tokenizer and preprocessing.
    config: what it was trained with.
    weights_sha256: the hash of its weights.
    selected: source → what conditions selected of it.
    step: optimizer steps.
    """

    clip: Clip
    config: TrainConfig
    weights_sha256: str
    selected: Mapping[str, Any]
    step: int


def model_kind(path: str | Path) -> str:
    """`model.kind` of a checkpoint.

    Raises:
        CheckpointError: damaged, or not one of ours.
    """
    content = load_checkpoint(path)
    with description_of(path):
        return str(content["medvlp"]["config"]["model"].get("kind", "clip"))


def load_clip(path: str | Path) -> Loaded:
    """The CLIP model of a checkpoint; nothing else is needed, not even its text tower's package.

    Raises:
        CheckpointError: damaged, not ours, or another objective's.
    """
    content = load_checkpoint(path)
    with description_of(path):
        card: Mapping[str, Any] = content["medvlp"]
        config = from_dict(card["config"])
        if not isinstance(config.model, ClipConfig):
            raise CheckpointError(f"checkpoint {path} holds model.kind={config.model.kind!r}, not a CLIP model")
        files = card["text_files"] if "text_files" in card else named_text_files(card, config.model)
        name = str(card["tokenizer"]["name"])
        clip = from_description(card["model_cfg"], card["preprocess"], files, name, "its description")
        fill(clip.model, content["state_dict"])
        clip.model.eval()
        auxiliary, width = content.get("auxiliary", {}), int(card["model_cfg"]["embed_dim"])
        clip.image_pool = loaded_pool(card.get(POOL), auxiliary, width)
        return Loaded(clip, config, card["weights_sha256"], card.get("selected", {}), content["global_step"])


def clip_named(name: ModelName, key: str) -> tuple[Clip, str]:
    """The CLIP model of a checkpoint or an `open_clip:` name, in evaluation mode, and the hash of its weights.

    key: of the command, for messages.

    Raises:
        ConfigError: a name of another scheme.
        CheckpointError, WeightsError: damaged, not a CLIP model, or nothing there.
    """
    if name.scheme == "checkpoint":
        checkpoint = load_clip(name.target)
        return checkpoint.clip, checkpoint.weights_sha256
    if name.scheme == "open_clip":
        clip = OpenClipModel(name).clip()
        return clip, weights_hash(clip.model.state_dict())
    raise ConfigError(
        f"{key}={name.text}: expected a CLIP model of open_clip's classes: a checkpoint of one, "
        f"open_clip:<architecture>@<tag> or open_clip:<folder>"
    )


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's weights into the model that it describes; every tensor must match.

    Raises:
        WeightsError: names the first that do not.
    """
    expected = model.state_dict()
    missing, unknown = [n for n in expected if n not in tensors], [n for n in tensors if n not in expected]
    shapes = [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    if missing or unknown or shapes:
        raise WeightsError(
            f"its weights do not fit its description: missing {missing[:3]}, not in the model {unknown[:3]}, other shape "
            f"{shapes[:3]}"
        )
    model.load_state_dict(tensors)


@contextmanager
def description_of(path: str | Path) -> Iterator[None]:
    """A checkpoint's description is data: where it cannot be read or built, the checkpoint is at fault.

    Raises:
        CheckpointError: names the checkpoint and what is wrong with it.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (WeightsError, ConfigError) as error:
        raise CheckpointError(f"checkpoint {path}: {error}") from None
    except DAMAGE as error:
        raise CheckpointError(
            f"checkpoint {path}: its description or its weights are damaged ({type(error).__name__}: {first_line(error)})"
        ) from None


def named_text_files(card: Mapping[str, Any], model: ClipConfig) -> dict[str, str]:
    """The text tower's files for a checkpoint from before they travelled inside it: from where its configuration names them.

    Raises:
        CheckpointError: what is there now turns texts into other ids.
    """
    text_cfg = card["model_cfg"]["text_cfg"]
    name = text_cfg.get("hf_tokenizer_name") if model.name else model.text.huggingface
    if not name:
        return {}
    folder, identity = Path(resolve(name)), card["tokenizer"]
    if folder.is_dir() and files_hash(folder, FORMER_TOKENIZER_FILES) != identity["sha256"]:
        raise CheckpointError(
            f"tokenizer {identity['name']!r} on this machine has other files than the one that it was trained with; install "
            f"the same version of its package or folder"
        )
    return text_files(name, tower=bool(text_cfg.get("hf_model_name")))


FORMER_TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer_config.json"),
)
