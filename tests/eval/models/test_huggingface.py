"""`hf:` models of images and text: answers and likelihoods of batches are stock transformers' own, one prompt at a time."""

import io

import numpy as np
import pytest
from PIL import Image
from torch import nn
from transformers.quantizers.quantizers_utils import should_convert_module

from medvlp.builders.models import named_model
from medvlp.config import EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.data.images.decode import size_of
from medvlp.eval.errors import TaskError
from medvlp.eval.models.answering import Prompt
from medvlp.models.hf.answering import Row
from medvlp.models.hf.loading import SKIPPED
from medvlp.shards import BadSample, Sample, Turn
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
            prompt_text, ids = template.continuation(reader, rendered, option)
            assert prompt_text == rendered
            assert stock.processor.tokenizer.decode(ids).strip() == option
            assert tokens == len(ids)
            assert total == pytest.approx(stock.loglikelihood(text, images, ids), abs=1e-5)
    assert model.metadata()["generation_settings_not_used"] == ["repetition_penalty"]
    for (text, images), prompt in zip(asked, prompts, strict=True):
        rendered, sizes = template.prompt(prompt.turns, prompt.images), [(i.height, i.width) for i in images]
        more = reader.image_tokens(rendered, sizes) if sizes else 0
        assert len(reader.ids(rendered)) + more == stock.inputs(text, images)["input_ids"].shape[1]
    layers = [name for name, layer in stock.model.named_modules() if isinstance(layer, nn.Linear)]
    in_four_bits = [name for name in layers if should_convert_module(name, [*SKIPPED])]
    assert in_four_bits == [name for name in layers if "language_model" in name or "text_model" in name]
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


def test_images_are_shown_exchanged_and_blank(tmp_path):
    """What the controls show: other images give other answers, and blank ones are of the mean colour to the last bit."""
    model = opened(CHAT["llava"](tmp_path))
    first, second = (model.pictures(Sample("s", {"a.png": picture(n), "b.png": picture(n + 1)})) for n in (0, 2))
    mixed = model.gathered([(second, 1), (first, 0)])
    assert [image.tobytes() for image in mixed.images] == [second.images[1].tobytes(), first.images[0].tobytes()]
    reader, blank = model.generator.reader, model.blank(2)
    inputs = reader.inputs([Row("<image><image>", blank.images, blank.is_blank)])
    assert inputs["pixel_values"].shape == (2, 3, 32, 32)
    assert not inputs["pixel_values"].any()
    rounded = reader.inputs([Row("<image><image>", blank.images)])["pixel_values"]
    assert 0 < rounded.abs().max() < 0.01
    question = [Turn("user", "<image>\n<image>\nWhat has changed?")]
    likelihoods = model.loglikelihood(
        [Prompt(question, 2, images) for images in (first, second, mixed, blank)], [["yes"]] * 4
    )
    assert len({round(row[0][0], 4) for row in likelihoods}) == 4
    assert model.blank(0).images == ()
    assert model.metadata()["blank_image"] == "32 × 32 px of the mean colour"


def test_tokens_of_images_count_where_a_prompt_must_fit(tmp_path):
    model = opened(CHAT["llava"](tmp_path))
    question = [Turn("user", "<image>\nIs it?")]
    length = len(model.generator.reader.ids(model.prompt_text(question, 1))) + 3  # four tokens for a placeholder
    assert model.fits(question, question, [picture(0)], [], 1024 - length)
    assert not model.fits(question, question, [picture(0)], [], 1025 - length)
    prompt = Prompt(question, 1, model.pictures(Sample("s", {"a.png": picture(0)})))
    with pytest.raises(TaskError, match="takes 1025 tokens; this model was made for 1024"):
        model.generate([prompt], 1025 - length)


def test_a_turned_image_is_measured_as_it_is_shown():
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(turned, "JPEG", exif=exif)
    assert size_of(turned.getvalue()) == (40, 20)
    assert size_of(picture(0)) == SHAPES[0]
    with pytest.raises(BadSample) as caught:
        size_of(b"nothing")
    assert caught.value.reason == "undecodable_image"
