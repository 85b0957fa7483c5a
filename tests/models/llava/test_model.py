"""The assembled model is stock transformers', and nothing leaks between what shares a row."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image

from medvlp.models.llava.language import load_language, sliding_window
from medvlp.models.llava.metadata import from_metadata, metadata_of
from medvlp.models.llava.model import add_lora, assemble, projected_features, tower_features
from medvlp.models.llava.packed import last_hidden
from medvlp.models.parts import part_of
from medvlp.models.towers import load_tower
from medvlp.models.towers.reduce import Reduce
from medvlp.models.weights import WeightsError
from tests.assistants import scrambled, tiny_assistant
from tests.data.chat.packed import IMAGE_ID, collate, encoded, rows_of

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
    made.model.config.image_token_id = IMAGE_ID  # as in tests.data.chat.packed
    return made


def logits_of(model, batch):
    """(R·L, V), as training sees them."""
    features = None if batch.images_N is None else projected_features(model, batch.images_N)
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
FIRST = encoded(([1, *IMAGE, 2, 3], False), ([4, 5], True))
SECOND = encoded(([1, *IMAGE, 6], False), ([7, 8, 9], True))
LAST = encoded(([1, *IMAGE, 2, 9, 9], False), ([3], True), ([8], False), ([5, 6], True))


def test_features_are_those_of_the_stock_model(assistant):
    model = assistant.model
    images = pixels(model, 3)
    with torch.no_grad():
        ours = projected_features(model, images)
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
    rows = [[item(model, FIRST, SECOND, LAST), item(model, LAST, seed=1)], [item(model, SECOND, seed=2)]]
    batch = collate(rows, tree)
    ours = logits_of(model, batch)[batch.logit_positions_T]
    theirs = []
    for example in (example for row in rows for example in row):
        for conversation in example["conversations"]:
            ids = torch.from_numpy(conversation.ids)[None]
            with torch.no_grad():
                logits = model(input_ids=ids, pixel_values=example["images"], use_cache=False).logits[0]
            theirs.append(logits[np.flatnonzero(conversation.supervised) - 1])
    assert torch.allclose(ours, torch.cat(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tree", [False, True], ids=["sequence", "tree"])
@pytest.mark.parametrize("part", ["branch", "answer", "image", "padded row"])
def test_a_change_in_one_conversation_leaves_all_others_as_they_are(assistant, tree, part):
    model = assistant.model
    rows = [[item(model, FIRST, SECOND, LAST), item(model, LAST, seed=1)], [item(model, SECOND, seed=2)]]
    changed = copy.deepcopy(rows)
    if part == "image":
        changed[0][1]["images"] += 1
        touched = ["k1"]
    elif part == "padded row":
        changed[1][0]["conversations"][0].ids[6] = 30
        touched = ["k2"]
    else:  # a token of the second question about the first image, or of its answer
        changed[0][0]["conversations"][1].ids[{"branch": 5, "answer": 6}[part]] = 30
        touched = ["k0"]
    before, after = (by_conversation(model, batch_rows, tree) for batch_rows in (rows, changed))
    differing = {name for name in before if (before[name] - after[name]).abs().max() > 1e-6}
    expected = {"k0": ("k0", 1), "k1": ("k1", 0), "k2": ("k2", 0)}[touched[0]]
    assert differing == {expected}
    assert (before[expected] - after[expected]).abs().max() > 1e-3


def by_conversation(model, rows, tree):
    """(item's key, conversation) → logits that predict its answers."""
    batch = collate(rows, tree)
    logits = logits_of(model, batch)[batch.logit_positions_T]
    answer_logits, begin = {}, 0
    for number, example in enumerate(example for row in rows for example in row):
        for index, conversation in enumerate(example["conversations"]):
            count = int(conversation.supervised.sum())
            answer_logits[(f"k{number}", index)] = logits[begin : begin + count]
            begin += count
    assert begin == len(logits)
    return answer_logits


@SOME
@given(rows_of(most_rows=2, most_items=2))
def test_eager_attention_sees_what_sdpa_sees(eager_and_sdpa, rows):
    eager, sdpa = eager_and_sdpa
    for example in (example for row in rows for example in row):
        example["images"] = pixels(sdpa, len(example["images"])) if len(example["images"]) else example["images"]
    for tree in (False, True):
        batch = collate(rows, tree)
        real = (batch.documents_RL != -1).flatten()
        ours, theirs = logits_of(eager, batch)[real], logits_of(sdpa, batch)[real]
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def assistant_with(folder, attention):
    tiny_assistant(folder)  # leaves its parts there
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
    rows = [[item(sdpa, FIRST, SECOND, LAST), item(sdpa, LAST, seed=1)], [item(sdpa, SECOND, seed=2)]]
    batch = collate(rows, tree)
    real = (batch.documents_RL != -1).flatten()
    assert torch.allclose(logits_of(flex, batch)[real], logits_of(sdpa, batch)[real], rtol=1e-4, atol=1e-5)


# --- what an assistant is made of, and what a checkpoint holds of it ---------------------------------------------------


@pytest.mark.parametrize("names", [*NAMES, ("qwen2", "clip")], ids="-".join)
@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
def test_a_card_and_the_weights_are_the_assistant(folder, names, lora):
    made = tiny_assistant(folder, *names)
    if lora:
        add_lora(made, 2, 8, 0.1, ["q_proj", "down_proj"])
        scrambled(made.model.model.language_model)  # adapters begin at nothing
    card = json.loads(json.dumps(metadata_of(made)))
    again = from_metadata(card)
    again.model.load_state_dict(made.model.state_dict())
    again.model.eval()
    text = "<|im_start|>user\n<image>\nIs it  12.5 mm?\n\n<|im_end|>"
    assert again.tokenizer(text)["input_ids"] == made.tokenizer(text)["input_ids"]
    assert again.tokenizer.backend_tokenizer.to_str() == made.tokenizer.backend_tokenizer.to_str()
    assert again.parts == made.parts
    assert (again.image_id, again.pad_id) == (made.image_id, made.pad_id)
    assert {part: name["sha256"] for part, name in again.names.items()} == {
        part: name["sha256"] for part, name in made.names.items()
    }
    assert not any("/" in name["name"] for name in again.names.values())  # of folders, the last part
    ids = torch.tensor([[1, 2, *[made.image_id] * 4, 3]])
    images = pixels(made.model, 1)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    pixel_values = [assistant.processor([picture], return_tensors="pt")["pixel_values"] for assistant in (made, again)]
    assert torch.equal(*pixel_values)
    with torch.no_grad():
        logits = [
            assistant.model(input_ids=ids, pixel_values=images, use_cache=False).logits for assistant in (made, again)
        ]
    assert torch.equal(*logits)
    tied = [
        assistant.model.lm_head.weight is assistant.model.get_input_embeddings().weight for assistant in (made, again)
    ]
    assert tied == [names[0] == "llama"] * 2


@pytest.mark.parametrize(("family", "heads"), [("llama", 2), ("qwen2", 4)])
def test_adapters_begin_at_nothing_and_of_the_language_model_only_they_learn(folder, family, heads):
    made = tiny_assistant(folder, family)
    batch = collate([[item(made.model, FIRST)]], tree=True)
    made.model.config.image_token_id = IMAGE_ID
    before = logits_of(made.model, batch)
    add_lora(made, 4, 8, 0.0, ["q_proj", "v_proj"])
    assert torch.equal(logits_of(made.model, batch), before)
    learning = {part_of(name, made.parts) for name, p in made.model.named_parameters() if p.requires_grad}
    assert learning == {"vision", "projector", "adapter"}
    names = [name for name, _ in made.model.named_parameters() if part_of(name, made.parts) == "adapter"]
    assert len(names) == 2 * 2 * 2  # layers, targets, two matrices each
    shapes = {tuple(p.shape) for name, p in made.model.named_parameters() if part_of(name, made.parts) == "adapter"}
    assert shapes == {(4, 32), (32, 4), (8 * heads, 4)}  # Llama's has two heads of four for keys and values
    assert {part_of(n, made.parts) for n, _ in made.model.named_parameters() if "base_layer" in n} == {"language"}


def test_adapters_without_a_layer_are_refused(folder):
    with pytest.raises(WeightsError, match=r"model.lora.targets=\['q_prj'\]"):
        add_lora(tiny_assistant(folder), 4, 8, 0.0, ["q_prj"])


def test_whatever_learns_has_a_gradient(assistant):
    """DDP waits for all of them."""
    model = assistant.model
    batch = collate([[item(model, FIRST, SECOND)]], tree=True)
    features = projected_features(model, batch.images_N)
    loss = model.lm_head(last_hidden(model, batch, features)).sum()
    learning = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, learning, allow_unused=True)
    assert all(gradient is not None for gradient in gradients)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = {"model.vision_tower"} if assistant.kind == "llava" else set()
    assert {".".join(name.split(".")[:2]) for name in frozen} == expected  # layers above the chosen one


@pytest.mark.parametrize(("kind", "width"), [("average_pool", 32), ("pixel_shuffle", 128)])
def test_a_reducer_leaves_fewer_tokens(folder, kind, width):
    made = tiny_assistant(folder, reduce=Reduce(kind, 2))
    assert made.image_tokens == 1
    projector = made.model.model.multi_modal_projector[1]
    assert projector.linear_1.in_features == width
    features = projected_features(made.model, pixels(made.model, 3))
    assert features.shape == (3, 1, 32)
    again = from_metadata(json.loads(json.dumps(metadata_of(made))))
    again.model.load_state_dict(made.model.state_dict())
    assert (again.image_tokens, again.reduce) == (1, {"kind": kind, "factor": 2})


def test_gradient_checkpointing_changes_nothing(folder):
    made = tiny_assistant(folder)
    model = made.model.train()
    model.config.image_token_id = IMAGE_ID
    batch = collate([[item(model, FIRST, SECOND, LAST)]], tree=True)
    results = []
    for _ in range(2):
        features = projected_features(model, batch.images_N)
        hidden = last_hidden(model, batch, features)
        learning = [p for p in model.parameters() if p.requires_grad]
        results.append([hidden, *torch.autograd.grad(hidden.square().sum(), learning, allow_unused=True)])
        model.gradient_checkpointing_enable({"use_reentrant": False})
    assert any(module.gradient_checkpointing for module in model.modules() if hasattr(module, "gradient_checkpointing"))
    for result, expected in zip(*results, strict=True):
        assert (result is None and expected is None) or torch.equal(result, expected)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"sliding_window": None}, None),
        ({"sliding_window": 512}, 512),  # Mistral
        ({"sliding_window": 512, "use_sliding_window": False}, None),  # Qwen2
        ({"sliding_window": 512, "use_sliding_window": True}, 512),
        ({"sliding_window": 512, "layer_types": ["full_attention"] * 2}, None),
        ({"sliding_window": 512, "layer_types": ["full_attention", "sliding_attention"]}, 512),  # Gemma
        ({}, None),
    ],
)
def test_how_far_attention_reaches_back(config, expected):
    model = SimpleNamespace(config=SimpleNamespace(text_config=SimpleNamespace(**config)))
    assert sliding_window(model) == expected


def test_an_output_layer_with_a_bias_is_refused(folder):
    tiny_assistant(folder)
    language, tokenizer, name = load_language(str(folder / "llama"))
    language.lm_head = torch.nn.Linear(32, language.config.vocab_size)
    with pytest.raises(WeightsError, match="its output layer has a bias"):
        assemble(load_tower(str(folder / "tower")), language, tokenizer, name, None)
