"""Positions of a text tower for other contexts: against open_clip's own, and against Long-CLIP's rule written out."""

import open_clip
import pytest
import torch
from open_clip.model import resize_text_pos_embed
from torch.nn.functional import normalize

from medvlp.export.open_clip import write_folder
from medvlp.models.clip.model import ClipEncoder
from medvlp.models.clip.positions import fitted, fitted_state
from medvlp.models.clip.sources import named
from medvlp.models.weights import WeightsError
from tests.models.tiny import tiny_architecture

SHORT, LONG = "a chest with one finding", "a chest with one finding of many kinds " * 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("positions")
    torch.manual_seed(0)
    for is_custom in (False, True):
        architecture = tiny_architecture(made, is_custom)
        clip = named(str(architecture))
        with torch.no_grad():
            for name, parameter in clip.model.named_parameters():
                if "positional" in name:
                    parameter.normal_()
        torch.save(clip.model.state_dict(), architecture.with_suffix(".pt"))
    return made


def built(folder, is_custom=False, **options):
    path = tiny_architecture(folder, is_custom)
    clip = named(str(path), str(path.with_suffix(".pt")), **options)
    clip.model.eval()
    return clip


def embeddings(clip, *texts):
    return ClipEncoder(clip).encode_text(list(texts))


def test_the_rules_are_open_clips_and_long_clips():
    positions = torch.randn(77, 4, generator=torch.Generator().manual_seed(1))
    state = {"positional_embedding": positions}
    resize_text_pos_embed(state, torch.nn.ParameterDict({"positional_embedding": torch.empty(256, 4)}))
    assert torch.equal(fitted(positions, 256, "linear"), state["positional_embedding"])
    expected = torch.empty(248, 4)
    expected[:20] = positions[:20]
    for i in range(57):
        low = min(i, 55)  # beyond the last position, in the direction of the last two
        step = positions[20 + low + 1] - positions[20 + low]
        for quarter in range(4):
            expected[20 + 4 * i + quarter] = positions[20 + low] + step * (quarter / 4 + i - low)
    assert torch.allclose(fitted(positions, 248, "kept"), expected, atol=1e-6)
    for rule in ("linear", "kept"):
        assert torch.equal(fitted(positions, 32, rule), positions[:32])
        assert torch.equal(fitted(positions, 77, rule), positions)
        assert fitted(positions.bfloat16(), 128, rule).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="unknown rule"):
        fitted(positions, 80, "cubic")


def test_a_class_tokens_position_stays():
    positions = torch.randn(25, 4)
    targets = {"text.positional_embedding": torch.empty(41, 4), "text.cls_emb": torch.empty(4)}
    made = fitted_state({"text.positional_embedding": positions, "a": positions}, targets, "linear")
    assert torch.equal(made["text.positional_embedding"][-1], positions[-1])
    assert torch.equal(made["text.positional_embedding"][:-1], fitted(positions[:-1], 40, "linear"))
    assert made["a"] is positions


@pytest.mark.parametrize("is_custom", [False, True])
def test_a_longer_context_from_pretrained_weights(folder, is_custom, capsys):
    original = built(folder, is_custom)
    linear = built(folder, is_custom, context_length=64)
    assert "has 24 positions, and the context 64: all interpolated linearly" in capsys.readouterr().out
    first_20 = built(folder, is_custom, context_length=64, positions="kept")
    shorter = built(folder, is_custom, context_length=12)
    before = embeddings(original, SHORT)
    for clip in (first_20, shorter):  # a text that fits keeps its embedding
        assert torch.allclose(embeddings(clip, SHORT), before, atol=1e-6)
    assert (embeddings(linear, SHORT) - before).abs().max() > 1e-3  # the rule promises none
    # what the shorter context cuts off is read in the longer one
    for clip in (linear, first_20):
        long, longer = embeddings(clip, LONG, LONG[:-30] + "other")
        assert (long - longer).abs().max() > 1e-4
    name = str(tiny_architecture(folder, is_custom))
    open_clip.add_model_config(name)
    stem, weights = name.rpartition("/")[2].removesuffix(".json"), name.replace(".json", ".pt")
    stock = open_clip.create_model(stem, pretrained=weights, force_context_length=64).eval()
    with torch.no_grad():
        expected = normalize(stock.encode_text(linear.tokenizer([SHORT, LONG])), dim=-1)
    assert torch.allclose(embeddings(linear, SHORT, LONG), expected, atol=1e-6)


def test_an_exported_model_opens_in_stock_open_clip_with_its_context(folder, tmp_path):
    clip = built(folder, context_length=64, positions="kept")
    exported = tmp_path / "exported"
    exported.mkdir()
    write_folder(clip, exported, "0" * 64)
    stock = open_clip.create_model(f"local-dir:{exported}").eval()
    tokens_BL = open_clip.get_tokenizer(f"local-dir:{exported}")([SHORT, LONG])
    assert tokens_BL.shape == (2, 64)
    with torch.no_grad():
        expected = normalize(stock.encode_text(tokens_BL), dim=-1)
    assert torch.equal(embeddings(clip, SHORT, LONG), expected)


def test_a_caption_decoder_keeps_its_context():
    with pytest.raises(WeightsError, match="CoCa's decoder reads as many tokens as it was built for, 76"):
        named("coca_ViT-B-32", context_length=128)
