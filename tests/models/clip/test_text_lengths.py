from types import SimpleNamespace

import pytest
import torch
from open_clip.transformer import TextTransformer

from medvlp.models.clip.model import preprocess_settings
from medvlp.models.clip.sources import architecture, composed, named
from medvlp.models.clip.text_lengths import encode_by_length, used_lengths
from tests.models.tiny import tiny_architecture, tiny_text_tower


def built(kind, folder):
    if kind.startswith("own"):
        return named(str(tiny_architecture(folder, custom_text=kind == "own custom")))
    text = str(tiny_text_tower(folder / "text", kind, **({"pad_token_id": 0} if kind == "bert" else {})))
    cfg = architecture("test_vit", "avg", "linear", text, "mean_pooler", "mlp", 24, 16, 32, 0.07)
    return composed(cfg, "", True, text, preprocess_settings(32))


def gradients(model, features_BE):
    model.zero_grad()
    (
        features_BE.double() * torch.linspace(-1, 1, features_BE.numel(), dtype=torch.double).view_as(features_BE)
    ).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("kind", ["own", "own custom", "bert"])
def test_groups_of_similar_length_give_the_features_and_gradients_of_the_whole_batch(kind, tmp_path):
    torch.manual_seed(0)
    clip = built(kind, tmp_path)
    model = clip.model.double().eval()
    lengths = [1, 20, 3, 9, 30, 2, 0, 5, 12, 7, 4, 4, 18, 1, 6, 8, 2]
    tokens_BL = clip.tokenizer([" ".join("abcdefgh"[i % 8] for i in range(length)) for length in lengths])
    widths = []
    model.get_submodule("text.transformer" if kind != "own" else "transformer").register_forward_pre_hook(
        lambda _, arguments, named: widths.append(
            (named["input_ids"] if "input_ids" in named else arguments[0]).shape[:2]
        ),
        with_kwargs=True,
    )
    whole = model.encode_text(tokens_BL)
    expected = gradients(model, whole)
    grouped = encode_by_length(model, tokens_BL)
    assert torch.allclose(whole, grouped, rtol=1e-12, atol=1e-12)
    grouped_gradients = gradients(model, grouped)
    assert grouped_gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(grouped_gradients[name], gradient, rtol=1e-9, atol=1e-12), name
    assert [tuple(width) for width in widths] == [(17, 24), (9, 7), (8, 24)]  # two groups; the first is trimmed


def test_a_text_that_begins_and_ends_with_padding_keeps_its_positions():
    model = SimpleNamespace(text=SimpleNamespace(config=SimpleNamespace(pad_token_id=0)))
    assert used_lengths(model, torch.tensor([[0, 5, 0, 6, 0], [0, 0, 0, 0, 0], [5, 5, 5, 5, 5]])).tolist() == [4, 1, 5]


@pytest.mark.parametrize("options", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}])
def test_a_tower_that_sees_its_padding_gets_the_whole_context(options):
    tower = TextTransformer(8, 32, 8, 2, 1, output_dim=4, **options)
    model = SimpleNamespace(text=tower, encode_text=tower)
    tokens_BL = torch.randint(1, 32, (16, 8)).index_fill(1, torch.tensor([6, 7]), 0)
    assert used_lengths(model, tokens_BL) is None
    assert torch.equal(encode_by_length(model, tokens_BL), tower(tokens_BL))
