"""The assembled model is stock transformers', and nothing leaks between what shares a row."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from medvlp.models.language import load_language
from medvlp.models.llava import assemble, last_hidden, tower_features
from medvlp.models.towers import load_tower
from tests.assistants import tiny_assistant, tiny_language, tiny_tower
from tests.data.packed import IMAGE_ID, collate, encoded, rows_of

SOME = settings(
    deadline=None,
    max_examples=6,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
NAMES = [("llama", "clip"), ("qwen2", "test_efficientnet")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module", params=NAMES, ids="-".join)
def assistant(request, folder):
    made = tiny_assistant(folder, *request.param)
    made.model.config.image_token_id = IMAGE_ID  # as in tests.data.packed
    return made


def logits_of(model, batch):
    """(R·L, V), as training sees them."""
    features = (
        None if batch["images"] is None else model.model.multi_modal_projector(tower_features(model, batch["images"]))
    )
    with torch.no_grad():
        return model.lm_head(last_hidden(model, batch, features)).flatten(0, 1)


def pixels(model, count, seed=0):
    side = model.config.vision_config.image_size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def item(model, *conversations, images=1, seed=0):
    return {
        "conversations": copy.deepcopy(conversations),
        "images": pixels(model, images, seed) if images else torch.empty(0),
    }


IMAGE = [IMAGE_ID] * 4
ONE = encoded(([1, *IMAGE, 2, 3], False), ([4, 5], True))
OTHER = encoded(([1, *IMAGE, 6], False), ([7, 8, 9], True))
LAST = encoded(([1, *IMAGE, 2, 9, 9], False), ([3], True), ([8], False), ([5, 6], True))


def test_features_are_those_of_the_stock_model(assistant):
    model = assistant.model
    images = pixels(model, 3)
    with torch.no_grad():
        ours = model.model.multi_modal_projector(tower_features(model, images))
        theirs = model.get_image_features(images).pooler_output
    theirs = torch.stack(list(theirs))
    assert ours.shape == (3, assistant.image_tokens, model.config.text_config.hidden_size)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("layer", "strategy"), [(-1, "default"), (1, "full"), ([-3, -2], "default")])
def test_features_of_other_layers_are_the_stock_models_too(folder, layer, strategy):
    model = tiny_assistant(folder).model
    model.config.vision_feature_layer, model.config.vision_feature_select_strategy = layer, strategy
    images = pixels(model, 2)
    model.model.multi_modal_projector = torch.nn.Identity()
    with torch.no_grad():
        assert torch.equal(
            tower_features(model, images), torch.stack(list(model.get_image_features(images).pooler_output))
        )


@pytest.mark.parametrize("tree", [False, True], ids=["sequence", "tree"])
def test_logits_are_those_of_the_stock_model(assistant, tree):
    model = assistant.model
    rows = [[item(model, ONE, OTHER, LAST), item(model, LAST, seed=1)], [item(model, OTHER, seed=2)]]
    batch = collate(rows, tree)
    ours = logits_of(model, batch)[batch["predictors"]]
    theirs = []
    for one in (one for row in rows for one in row):
        for conversation in one["conversations"]:
            ids = torch.from_numpy(conversation.ids)[None]
            with torch.no_grad():
                logits = model(input_ids=ids, pixel_values=one["images"], use_cache=False).logits[0]
            theirs.append(logits[np.flatnonzero(conversation.supervised) - 1])
    assert torch.allclose(ours, torch.cat(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tree", [False, True], ids=["sequence", "tree"])
@pytest.mark.parametrize("which", ["branch", "answer", "image", "padded row"])
def test_a_change_in_one_conversation_leaves_all_others_as_they_are(assistant, tree, which):
    model = assistant.model
    rows = [[item(model, ONE, OTHER, LAST), item(model, LAST, seed=1)], [item(model, OTHER, seed=2)]]
    changed = copy.deepcopy(rows)
    if which == "image":
        changed[0][1]["images"] += 1
        touched = ["k1"]
    elif which == "padded row":
        changed[1][0]["conversations"][0].ids[6] = 30
        touched = ["k2"]
    else:  # a token of the second question about the first image, or of its answer
        changed[0][0]["conversations"][1].ids[{"branch": 5, "answer": 6}[which]] = 30
        touched = ["k0"]
    before, after = (by_conversation(model, one, tree) for one in (rows, changed))
    differing = {name for name in before if (before[name] - after[name]).abs().max() > 1e-6}
    expected = {"k0": ("k0", 1), "k1": ("k1", 0), "k2": ("k2", 0)}[touched[0]]
    assert differing == {expected}
    assert (before[expected] - after[expected]).abs().max() > 1e-3


def by_conversation(model, rows, tree):
    """(item's key, conversation) → logits that predict its answers."""
    batch = collate(rows, tree)
    logits = logits_of(model, batch)[batch["predictors"]]
    found, begin = {}, 0
    for number, one in enumerate(one for row in rows for one in row):
        for which, conversation in enumerate(one["conversations"]):
            count = int(conversation.supervised.sum())
            found[(f"k{number}", which)] = logits[begin : begin + count]
            begin += count
    assert begin == len(logits)
    return found


@SOME
@given(rows_of(most_rows=2, most_items=2))
def test_eager_attention_sees_what_sdpa_sees(eager_and_sdpa, rows):
    eager, sdpa = eager_and_sdpa
    for one in (one for row in rows for one in row):
        one["images"] = pixels(sdpa, len(one["images"])) if len(one["images"]) else one["images"]
    for tree in (False, True):
        batch = collate(rows, tree)
        real = (batch["documents"] != -1).flatten()
        ours, theirs = logits_of(eager, batch)[real], logits_of(sdpa, batch)[real]
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def assistant_with(folder, attention):
    tiny_language(folder / "llama") if not (folder / "llama").exists() else None
    tiny_tower(folder / "tower") if not (folder / "tower").exists() else None
    torch.manual_seed(4)
    language = load_language(str(folder / "llama"), attention=attention)
    made = assemble(load_tower(str(folder / "tower")), *language, None)
    made.model.config.image_token_id = IMAGE_ID
    assert made.model.model.language_model.config._attn_implementation == attention
    return made.model.eval()


@pytest.fixture(scope="module")
def eager_and_sdpa(folder):
    return [assistant_with(folder, attention) for attention in ("eager", "sdpa")]


@pytest.mark.slow  # compiles a kernel
@pytest.mark.parametrize("tree", [False, True], ids=["sequence", "tree"])
def test_flex_attention_sees_what_sdpa_sees(folder, tree):
    flex, sdpa = (assistant_with(folder, attention) for attention in ("flex_attention", "sdpa"))
    rows = [[item(sdpa, ONE, OTHER, LAST), item(sdpa, LAST, seed=1)], [item(sdpa, OTHER, seed=2)]]
    batch = collate(rows, tree)
    real = (batch["documents"] != -1).flatten()
    assert torch.allclose(logits_of(flex, batch)[real], logits_of(sdpa, batch)[real], rtol=1e-4, atol=1e-5)
