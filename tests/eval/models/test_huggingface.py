"""`hf:` models of images and text: answers and likelihoods of batches are stock transformers' own, one prompt at a time."""

import io

import numpy as np
import pytest
from PIL import Image

from medvlp.builders.models import named_model
from medvlp.config import EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.models.answering import Prompt
from medvlp.shards import Sample, Turn
from tests.models.hf.families import CHAT
from tests.models.hf.stock import Stock

MULTI_IMAGE = set(CHAT) - {"paligemma"}
NEEDS_IMAGE = {"paligemma"}
TOKENS = 9
SHAPES = [(40, 70), (33, 33), (80, 30), (64, 64)]
OPTIONS = ["yes", "no", "In the left lung.", "In the left lobe", "Yes, it is enlarged."]


def picture(number):
    """An image with a pattern of its own, as PNG bytes; sizes and shapes differ."""
    height, width = SHAPES[number % len(SHAPES)]
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([127 + 120 * np.sin(x / (3 + number)), y * 255 / height, (x + y * (number + 1)) % 255], -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def prompts_of(model, family):
    """(question, PNG images) and the prompts of them: none to two images, of unequal lengths and sizes."""
    asked = [
        ("Is the heart enlarged?", [0]),
        ("Where is the lesion? Answer briefly.", [0]),
        ("What does the image show?", [1]),
        ("No?", [2]),
    ]
    if family in MULTI_IMAGE:
        asked += [("What has changed?", [2, 3]), ("Is the second one a chest x-ray, and is it normal?", [1, 0])]
    if family not in NEEDS_IMAGE:
        asked += [("What is a pleural effusion?", []), ("Is it normal?", [])]
    pictures = {
        tuple(images): model.pictures(Sample("s", {f"{i}.png": picture(n) for i, n in enumerate(images)}))
        for _, images in asked
    }
    prompts = [
        Prompt([Turn("user", "<image>\n" * len(images) + text)], len(images), pictures[tuple(images)])
        for text, images in asked
    ]
    return [(text, list(prompt.pixels.images)) for (text, _), prompt in zip(asked, prompts, strict=True)], prompts


def opened(folder, batch_size=3):
    """The model itself, without the log of its answers."""
    config = EvalConfig(checkpoints=["x"], tasks=["y"], batch_size=batch_size, cache=CacheConfig(max_gb=0))
    return named_model(parse_model_name(f"hf:{folder}")).open("cpu", config)


def check_family(family, folder):
    """Texts are equal, likelihoods within 1e-5, in batches of three and one by one."""
    stock = Stock(CHAT[family](folder))
    model = opened(folder)
    asked, prompts = prompts_of(model, family)
    expected = [stock.answer(text, images, TOKENS) for text, images in asked]
    assert len(set(expected)) > len(expected) // 2, expected  # or a model that sees nothing would do as well
    assert model.generate(prompts, TOKENS) == expected
    likelihoods = model.loglikelihood(prompts, [OPTIONS] * len(prompts))
    reader, template = model.generator.reader, model.template
    for (text, images), prompt, row in zip(asked, prompts, likelihoods, strict=True):
        rendered = template.prompt(prompt.turns, prompt.images)
        for option, (total, tokens) in zip(OPTIONS, row, strict=True):
            ids = template.continuation(reader, rendered, option)
            assert stock.processor.tokenizer.decode(ids).strip() == option
            assert tokens == len(ids)
            assert total == pytest.approx(stock.loglikelihood(text, images, ids), abs=1e-5)
    assert model.metadata()["generation_settings_not_used"] == ["repetition_penalty"]
    return model, stock, asked, prompts


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_a_batch_is_stock_transformers_one_prompt_at_a_time(family, tmp_path):
    check_family(family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(set(CHAT) - {"llava", "qwen2_vl"}))
def test_every_family_is_stock_transformers(family, tmp_path):
    if family == "smolvlm":
        pytest.importorskip("num2words")
    check_family(family, tmp_path)
