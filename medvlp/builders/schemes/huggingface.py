"""Models of `hf:` names: transformers' folders, names on its hub, and GGUF files of language models."""

from pathlib import Path
from typing import Any

import torch

from medvlp.boxes.forms import FORM_OF_FAMILY, STYLE_FILE, BoxStyle
from medvlp.boxes.views import Geometry, geometry_of
from medvlp.builders.models import ModelKind
from medvlp.config import EvalConfig
from medvlp.config.model_names import ModelName
from medvlp.eval.embeddings import CachedEncoder, CachedTextEncoder
from medvlp.eval.models.huggingface import HfModel
from medvlp.eval.models.templates import ChatTemplate, PlainImageText, PlainText, PromptTemplate
from medvlp.eval.store.embeddings import embedding_store
from medvlp.eval.task import EvaluatedModel
from medvlp.models.digests import FileFacts, content_identity, sha256_of
from medvlp.models.hf.answering import Generator, Reader, Row
from medvlp.models.hf.encoders import HfEncoder
from medvlp.models.hf.folders import POOLING, content_files, model_folder, read_json
from medvlp.models.hf.kinds import CAUSAL, ENCODER, TEXTS, TITLES, HfKind, kind_of
from medvlp.models.hf.loading import Loading, execution_of, load_model
from medvlp.models.hf.readers import (
    ImageTextReader,
    TextReader,
    load_image_processor,
    load_processor,
    load_tokenizer,
)
from medvlp.models.hf.text_encoders import TextEncoder
from medvlp.models.llava.language import load_language
from medvlp.models.weights import WeightsError, refuse_overwritten

PALIGEMMA = "PaliGemmaProcessor"


class HfNamedModel:
    """A `NamedModel` of transformers."""

    def __init__(self, name: ModelName) -> None:
        self.text, self.reference, self.revision = name.text, name.target, name.revision

    def kind(self) -> ModelKind:
        """What config.json describes. Raises WeightsError."""
        folder, gguf = model_folder(self.reference, self.revision, weights=False)
        kind = kind_of(folder, self.reference, gguf).kind
        if kind == ENCODER:
            return ModelKind(TITLES[kind], CachedEncoder.offers)
        if kind == TEXTS:
            return ModelKind(TITLES[kind], CachedTextEncoder.offers, takes_images=False)
        return ModelKind(TITLES[kind], HfModel.offers, takes_images=kind != CAUSAL)

    def identity(self, facts: FileFacts) -> str:
        """Hash of weights, configuration, processor and tokenizer, wherever they lie. Raises WeightsError."""
        folder, gguf = model_folder(self.reference, self.revision)
        hashes = [[path.name, sha256_of(path, facts)] for path in content_files(folder, gguf)]
        if (folder / POOLING).is_file():
            hashes.append([POOLING, sha256_of(folder / POOLING, facts)])
        return content_identity(hashes)

    def origin(self) -> dict[str, Any]:
        """{"revision"} of a hub's model: the commit. Raises WeightsError."""
        folder, _ = model_folder(self.reference, self.revision, weights=False)
        return {"revision": folder.name} if folder.parent.name == "snapshots" else {}

    def open(self, device: str, config: EvalConfig) -> EvaluatedModel:
        """The model on a device. Raises WeightsError."""
        folder, gguf = model_folder(self.reference, self.revision)
        kind = kind_of(folder, self.reference, gguf)
        loading = Loading(config.load.dtype, config.load.quantization, config.load.device_map, config.load.attention)
        store = embedding_store(config.cache)
        facts = FileFacts(store.folder.root if store else None)
        identity = self.identity(facts)
        if kind.kind == ENCODER:
            model = load_model(kind.kind, folder, self.reference, loading, device)
            processor = load_image_processor(folder, self.reference)
            encoder = HfEncoder(model, processor, load_tokenizer(folder, self.reference), identity, loading.options)
            refuse_overwritten(self.text, identity, self.identity(facts))
            return CachedEncoder(encoder, config.batch_size, config.workers, config.max_pixels, store)
        if kind.kind == TEXTS:
            model = load_model(kind.kind, folder, self.reference, loading, device)
            tokenizer = load_tokenizer(folder, self.reference)
            texts = TextEncoder.of_folder(model, tokenizer, folder, self.reference, identity, loading.options)
            refuse_overwritten(self.text, identity, self.identity(facts))
            return CachedTextEncoder(texts, config.batch_size, config.workers, config.max_pixels, store)
        model, reader, template = self._parts(folder, gguf, kind, loading, device)
        refuse_overwritten(self.text, identity, self.identity(facts))
        metadata: dict[str, Any] = {"family": kind.family, "load": loading.metadata()}
        if isinstance(reader, ImageTextReader):
            metadata["image_processor"] = type(reader.processor.image_processor).__name__
            metadata["blank_image"] = "{} × {} px of the mean colour".format(*reader.blank().size)
        if not kind.tested:
            metadata["family"] += " (not among those whose answers tests compare with transformers' own)"
        geometry = geometry_of(getattr(getattr(reader, "processor", None), "image_processor", None))
        return HfModel(
            Generator(model, reader, config.batch_size),
            template,
            kind.kind != CAUSAL,
            config.max_pixels,
            identity,
            metadata,
            execution_of(model, loading.options),
            _box_style(folder, kind, geometry),
        )

    def _parts(
        self, folder: Path, gguf: str, kind: HfKind, loading: Loading, device: str
    ) -> tuple[Any, Reader, PromptTemplate]:
        """Model, reader and template of a model that answers."""
        if kind.kind == CAUSAL:
            if gguf:
                if loading.quantization or loading.device_map:
                    raise WeightsError(
                        f"hf:{self.reference}: load.quantization and load.device_map are for safetensors"
                    )
                model: Any
                model, tokenizer, _ = load_language(str(folder), gguf, attention=loading.attention or "sdpa")
                dtype = torch.float32 if loading.dtype == "auto" else getattr(torch, loading.dtype)
                model.to(device, dtype).requires_grad_(False)
            else:
                tokenizer = load_tokenizer(folder, self.reference)
                model = load_model(kind.kind, folder, self.reference, loading, device)
            return model, *_text_parts(tokenizer)
        processor = load_processor(folder, self.reference)
        reader = ImageTextReader(processor)
        model = load_model(kind.kind, folder, self.reference, loading, device)
        return model, reader, _image_text_template(reader)


def _box_style(folder: Path, kind: HfKind, geometry: Geometry) -> BoxStyle:
    """As the folder of an exported assistant says; else its family's. Raises WeightsError."""
    path = folder / STYLE_FILE
    if not path.is_file():
        return BoxStyle(FORM_OF_FAMILY.get(kind.family, "shares"), geometry)
    try:
        return BoxStyle.from_metadata(read_json(path), geometry)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; export the assistant again, or remove the file") from None


def load_parts(name: ModelName) -> tuple[Any, Any, Any]:
    """The model in single precision on the CPU, its processor (a CLIP's image processor; a tokenizer of what reads texts alone)
    and its tokenizer, of transformers' own classes.

    Raises:
        WeightsError: nothing there, or damaged.
    """
    folder, gguf = model_folder(name.target, name.revision)
    kind = kind_of(folder, name.target, gguf).kind
    if gguf:
        language, tokenizer, _ = load_language(str(folder), gguf)
        return language, tokenizer, tokenizer
    model = load_model(kind, folder, name.target, Loading(), "cpu")
    tokenizer = load_tokenizer(folder, name.target)
    if kind in (CAUSAL, TEXTS):
        return model, tokenizer, tokenizer
    load = load_image_processor if kind == ENCODER else load_processor
    return model, load(folder, name.target), tokenizer


def _text_parts(tokenizer: Any) -> tuple[Reader, PromptTemplate]:
    template = _chat_template(tokenizer)
    if template:
        return TextReader(tokenizer, adds_special_tokens=False), ChatTemplate(tokenizer, template)
    return TextReader(tokenizer, adds_special_tokens=True), PlainText(tokenizer)


def _image_text_template(reader: ImageTextReader) -> PromptTemplate:
    processor, tokenizer = reader.processor, reader.tokenizer
    image_token = str(getattr(processor, "image_token", None) or "")
    try:
        reader.inputs([Row("a")])
        needs_image = False
    except ImportError:
        raise
    except Exception:  # whatever a processor raises where there is no image
        needs_image = True
    template = _chat_template(processor) or _chat_template(tokenizer)
    if template:
        return ChatTemplate(tokenizer, template, image_token or "<image>", needs_image)
    end = "\n" if type(processor).__name__ == PALIGEMMA else ""
    return PlainImageText(tokenizer, image_token, end, needs_image)


def _chat_template(owner: Any) -> str:
    """A processor's or tokenizer's chat template, or its default one of several; "" where there is none."""
    template = getattr(owner, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return str(template or "")
