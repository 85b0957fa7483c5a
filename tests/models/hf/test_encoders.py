"""`hf:` models that embed: unit vectors of batches are those of stock transformers, one item at a time."""

import inspect

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from medvlp.builders.models import identity_of, model_kind_of, named_model
from medvlp.builders.schemes import huggingface
from medvlp.config import EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.data.images.decode import decode_image
from medvlp.eval.embeddings import CachedEncoder
from medvlp.models.weights import WeightsError
from tests.eval.models.test_huggingface import picture
from tests.models.hf.encoder_families import ENCODERS

TEXTS = [
    "a chest x-ray",
    "no",
    "a small pleural effusion in the left lung, with an enlarged heart and a fracture of a rib",
]
FIXED = {"siglip": 16, "siglip2": 16}


def opened(folder):
    config = EvalConfig(checkpoints=["x"], tasks=["y"], workers=0, cache=CacheConfig(max_gb=0))
    model = named_model(parse_model_name(f"hf:{folder}")).open("cpu", config)
    assert isinstance(model, CachedEncoder)
    return model.encoder


@torch.no_grad()
def stock_text(model, tokenizer, text, family):
    """As its page says: filled up to the length that it was trained with, where there is such a one."""
    padding = {"padding": "max_length", "max_length": FIXED[family]} if family in FIXED else {}
    limit = {} if padding else {"max_length": 24}
    tokens = tokenizer([text], truncation=True, return_tensors="pt", **padding, **limit)
    known = inspect.signature(model.get_text_features).parameters
    return model.get_text_features(**{name: value for name, value in tokens.items() if name in known}).pooler_output[0]


@pytest.mark.parametrize("family", ENCODERS)
def test_embeddings_are_stock_transformers(family, tmp_path):
    folder = ENCODERS[family](tmp_path)
    model = AutoModel.from_pretrained(folder).eval()
    processor, tokenizer = (
        AutoImageProcessor.from_pretrained(folder, backend="pil"),
        AutoTokenizer.from_pretrained(folder),
    )
    images = [decode_image(picture(number), 10**6) for number in range(4)]
    encoder = opened(folder)
    with torch.no_grad():
        image_ND = torch.stack(
            [model.get_image_features(**processor(image, return_tensors="pt")).pooler_output[0] for image in images]
        )
    text_ND = torch.stack([stock_text(model, tokenizer, text, family) for text in TEXTS])
    for embedding_ND, expected_ND in (
        (encoder.encode_image(torch.stack([encoder.transform(image) for image in images])), image_ND),
        (encoder.encode_text(TEXTS), text_ND),
    ):
        unit_ND = torch.nn.functional.normalize(expected_ND, dim=-1)
        assert embedding_ND.dtype == torch.float32
        torch.testing.assert_close(embedding_ND, unit_ND, atol=2e-6, rtol=0)
        assert (unit_ND[1:] - unit_ND[0]).abs().amax(dim=1).min() > 1e-3  # different items have different vectors
    kind = model_kind_of(parse_model_name(f"hf:{folder}"))
    assert (kind.title, kind.offers) == ("a CLIP-like model", ("encode_image", "encode_text"))


def test_identity_is_of_the_content_wherever_it_lies(tmp_path):
    def identity(folder):
        return identity_of(parse_model_name(f"hf:{folder}"))

    first, second = ENCODERS["clip"](tmp_path / "a"), ENCODERS["clip"](tmp_path / "b")
    assert identity(first) == identity(second)
    (second / "README.md").write_text("words")
    assert identity(first) == identity(second)
    settings = second / "preprocessor_config.json"
    settings.write_text(settings.read_text().replace("0.48145466", "0.5"))
    assert identity(first) != identity(second)
    assert opened(first).transform_identity != opened(second).transform_identity
    assert opened(first).execution == "cpu float32"


def test_files_that_are_overwritten_while_they_are_loaded_are_refused(tmp_path, monkeypatch):
    folder = ENCODERS["siglip"](tmp_path)
    load = huggingface.load_tokenizer

    def overwriting(path, text):
        (folder / "tokenizer_config.json").write_text((folder / "tokenizer_config.json").read_text() + " ")
        return load(path, text)

    monkeypatch.setattr(huggingface, "load_tokenizer", overwriting)
    with pytest.raises(WeightsError, match="was overwritten after this command had looked at it"):
        opened(folder)
