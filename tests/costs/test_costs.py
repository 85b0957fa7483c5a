"""Costs before a training: FLOPs against the formula, bytes against torch's own, and what `medvlp plan` says."""

import json
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from benchmarks import recipe_costs
from medvlp.builders.planned import planned_model
from medvlp.config import compose
from medvlp.costs.counts import (
    ACTIVATIONS,
    GRADIENTS,
    WORKING,
    ModelBytes,
    PassCounts,
    TowerCounts,
    bytes_of,
    count_pass,
)
from medvlp.costs.devices import GPUS, LINKS, Machine
from medvlp.costs.imitation import Imitation
from medvlp.costs.live import LiveBytes
from medvlp.costs.stand_ins import named_architecture, text_tower
from medvlp.costs.step import Step, memory_of, seconds_of
from medvlp.verbs.plan import main
from tests.conftest import REPOSITORY

WIDTH, LAYERS, PATCH, SIDE, CONTEXT, EMBED = 32, 2, 8, 32, 16, 24
TINY = {
    "embed_dim": EMBED,
    "vision_cfg": {"image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": PATCH},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": LAYERS},
}
MACHINE = Machine(compute=1e12, loss=1e11, activations=None, memory=1e12, link=1e9, images=100.0)


def blocks(tokens: int) -> int:
    """FLOPs of a transformer's blocks: twice the products of the projections (4 D²), of the MLP (8 D²) and of attention."""
    return LAYERS * (2 * tokens * 12 * WIDTH**2 + 2 * 2 * tokens**2 * WIDTH)


PATCHES = (SIDE // PATCH) ** 2
VISION = blocks(PATCHES + 1) + 2 * PATCHES * 3 * PATCH**2 * WIDTH + 2 * WIDTH * EMBED
TEXT = blocks(CONTEXT) + 2 * WIDTH * EMBED


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny-plan.json").write_text(json.dumps(TINY))
    return [
        "model=open_clip",
        f"model.name={folder}/tiny-plan.json",
        f"data.sources.made.path={folder}/made/train",
        "data.global_batch_size=64",
        "trainer.max_epochs=2",
    ]


@pytest.fixture(scope="module")
def planned(arguments):
    return planned_model(compose("plan", arguments))


def test_flops_are_the_formulas(planned):
    vision, text = planned.counts.towers
    assert (vision.forward, text.forward) == (VISION, TEXT)
    # backward has two products for each of forward, attention in one kernel one more, and the first layer one less
    assert 2 * TEXT <= text.backward <= 2 * TEXT + LAYERS * 2 * CONTEXT**2 * WIDTH
    assert 1.8 * VISION < vision.backward < 2.1 * VISION


def test_bytes_are_torchs():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3, bias=False))
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    model(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert bytes_of([model]) == ModelBytes(
        sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]),
        sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None),
        sum(tensor.nbytes for tensor in states),
    )


def clip(is_checkpointed):
    model = open_clip.CLIP(EMBED, TINY["vision_cfg"], {**TINY["text_cfg"], "vocab_size": 500})
    model.set_grad_checkpointing(is_checkpointed)
    return model


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_the_highest_point_is_a_real_pass_s(is_checkpointed):
    """Bytes of a real pass on a CPU, by the same count of real storages, whose sum torch's profiler has too."""
    model, images, tokens = (
        clip(is_checkpointed),
        torch.zeros(6, 3, SIDE, SIDE),
        torch.ones(6, CONTEXT, dtype=torch.int64),
    )
    with LiveBytes("there") as live:
        for tensor in [*model.parameters(), *model.buffers(), images, tokens]:
            live.add(tensor)
        live.highest, before = {}, sum(live.live.values())
        features = [model.encode_image(images), model.encode_text(tokens)]
        graphs = sum(live.live.values()) - before
        for feature in reversed(features):
            feature.backward(torch.empty_like(feature))
        real = live.peak - before
    with torch.device("meta"):
        model = clip(is_checkpointed)
    imitation = Imitation("cpu")
    imitation.take(model)
    with imitation.here():
        batch = [torch.zeros(6, 3, SIDE, SIDE), torch.ones(6, CONTEXT, dtype=torch.int64)]
        encoders = [lambda: model.encode_image(batch[0]), lambda: model.encode_text(batch[1])]
        counts = count_pass(encoders, [model], 6, imitation, batch=batch)
    assert counts.graphs == graphs
    assert sum(counts.highest.values()) == pytest.approx(real, rel=0.01)  # a feature's own bytes end earlier


def kept_by(run, parameters, imitation, shape):
    """Bytes that the graph of a layer keeps for backward, its output among them."""
    layer = nn.Module()
    for number, size in enumerate(parameters):
        layer.register_parameter(f"p{number}", nn.Parameter(torch.empty(size, device="meta")))
    imitation.take(layer)
    with imitation.here():
        batch = torch.empty(shape)
        counts = count_pass([lambda: run(batch, *layer.parameters())], [layer], shape[0], imitation, batch=[batch])
    return counts


def test_kept_bytes_are_the_graphs():
    """Of a linear layer, a GELU and another: the inputs of the last two, and the output; in half precision also copies of the
    input and of weights."""

    def run(batch, first, second):
        linear, gelu = nn.functional.linear, nn.functional.gelu
        return linear(gelu(linear(batch, first)), second)

    sizes = [(40, 10), (5, 40)]
    single = kept_by(run, sizes, Imitation("cuda"), (6, 10))
    assert single.graphs == 6 * 4 * (40 + 40 + 5)
    assert single.towers[0].forward == 2 * (10 * 40 + 40 * 5)
    assert single.towers[0].backward == 2 * (10 * 40 + 2 * 40 * 5)
    mixed = kept_by(run, sizes, Imitation("cuda", torch.bfloat16), (6, 10))
    assert mixed.graphs == 6 * 2 * (10 + 40 + 40 + 5) + 2 * (10 * 40 + 40 * 5)
    assert mixed.highest[GRADIENTS] + mixed.highest[ACTIVATIONS] + mixed.highest[WORKING] >= mixed.graphs


def test_attention_and_dropout_keep_what_a_gpus_kernels_keep():
    heads, tokens, width = 2, 24, 16

    def attention(batch, weight):
        query_BHLD = nn.functional.linear(batch, weight)
        output = nn.functional.scaled_dot_product_attention(query_BHLD, query_BHLD, query_BHLD, dropout_p=0.1)
        return nn.functional.dropout(output, 0.5)

    counts = kept_by(attention, [(width, width)], Imitation("cuda", torch.bfloat16), (1, heads, tokens, width))
    values, size = heads * tokens * width, 2
    # input, query, output, dropped output; a byte a value; a float32 a row for the softmax; the weight; never tokens squared
    exact = size * 4 * values + values + 4 * heads * tokens + size * width**2
    assert exact <= counts.graphs <= exact + 100


@pytest.mark.parametrize(
    ("override", "is_checkpointed"),
    [("optim.parts.vision.freeze=true", False), ("model.gradient_checkpointing=true", True)],
)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_what_does_not_learn_costs_no_backward(arguments, planned, override, is_checkpointed, precision):
    words = [*arguments, f"trainer.precision={precision}", override, "optim.parts.vision_head.freeze=true"]
    changed, vision = planned_model(compose("plan", words)), planned.counts.towers[0]
    assert changed.counts.towers[0].forward == vision.forward
    assert changed.counts.towers[0].activations < vision.activations
    if is_checkpointed:  # computed again
        assert changed.counts.towers[0].backward > vision.backward
    else:
        assert changed.counts.towers[0].backward == 0
        assert changed.model.optimizer < planned.model.optimizer


def test_published_text_towers_need_no_hub(tmp_path):
    names = ["microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract", str(tmp_path)]
    folder = text_tower(names[0], tmp_path)
    config = AutoConfig.from_pretrained(folder)
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (768, 12, 30522)
    assert AutoTokenizer.from_pretrained(folder).pad_token_id == 0
    assert text_tower(names[1], tmp_path) == names[1]
    description = json.loads(Path(named_architecture("ViT-B-16-SigLIP", tmp_path)).read_text())
    assert "hf_tokenizer_name" not in description["text_cfg"]
    assert named_architecture("ViT-B-16", tmp_path) == "ViT-B-16"


def step(**changes) -> Step:
    towers = TowerCounts(10**9, 2 * 10**9, 1000)
    counts = PassCounts((towers, towers), 64_000, {ACTIVATIONS: 60_000, WORKING: 5_000, GRADIENTS: 100})
    values = Step(counts, ModelBytes(400, 300, 604), 64, 2, 1, 512, 32, 8, 2)
    return replace(values, **changes)


def test_seconds_by_hand():
    seconds = seconds_of(step(), MACHINE)
    assert seconds["towers"] == pytest.approx(32 * 6e9 / 1e12)
    assert seconds["loss"] == pytest.approx(8 * 32 * 64 * 512 / 1e11)
    assert seconds["all-gather"] == pytest.approx(2 * 0.5 * 2 * 4 * 64 * 512 / 1e9)
    assert seconds["gradients"] == 0  # behind the backward pass
    assert seconds["data"] == pytest.approx(32 / 200)
    assert seconds["step"] == max(
        seconds["data"], sum(seconds[n] for n in ("towers", "loss", "all-gather", "optimizer"))
    )
    in_parts = seconds_of(step(parts=4), MACHINE)
    assert in_parts["towers"] == pytest.approx(32 * 8e9 / 1e12)  # forward twice
    alone = seconds_of(step(ranks=1), MACHINE)
    assert alone["all-gather"] == alone["gradients"] == 0


def test_memory_by_hand():
    memory = memory_of(step(width=1))
    features = 4 * (64 + 32)
    assert memory["images"] == 32 * 3 * 32 * 32
    assert [memory[name] for name in (ACTIVATIONS, WORKING, GRADIENTS)] == [64_000, 0, 0]  # while the loss runs
    assert memory["features and logits"] == 3 * features + 4 * 4 * 8 * 64
    assert memory["total"] == sum(size for name, size in memory.items() if name != "total")
    in_parts = memory_of(step(width=1, parts=4))  # while a part's towers run
    assert [in_parts[name] for name in (ACTIVATIONS, WORKING, GRADIENTS)] == [60_000, 5_000, 100]
    large = memory_of(step(width=1, model=ModelBytes(400, 80_000, 604)))  # while the optimizer runs
    assert [large[name] for name in (ACTIVATIONS, WORKING, GRADIENTS)] == [0, 80_000, 80_000]
    assert memory_of(step(ema=True))["average"] == 400
    assert memory_of(step(ranks=1))["gradients in exchange"] == 0


def test_the_optimizers_working_memory_is_torchs():
    """AdamW over lists of tensors, as torch runs it on a GPU, holds a temporary tensor for each that learns."""
    parameters = [nn.Parameter(torch.zeros(size)) for size in (1000, 3000)]
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(parameters, foreach=True)
    optimizer.step()
    with LiveBytes("working") as live:
        optimizer.step()
    assert live.peak == pytest.approx(sum(parameter.nbytes for parameter in parameters), rel=0.01)


def test_every_gpu_has_its_link_and_source():
    assert all(gpu.link in LINKS and gpu.source for gpu in GPUS.values())


def test_what_is_printed(arguments, capsys):
    assert main([*arguments, "gpus=2", "gpu=a100"]) == 0
    text = capsys.readouterr().out
    assert all(
        words in text for words in ("2 × a100", "32 a GPU", "all-gather", "is not prepared; give samples=", "not known")
    )
    for switch, note in (("trainer.strategy=fsdp", "counted as ddp"), ("trainer.compile=true", "counted as eager")):
        assert main([*arguments, switch, "gpus=2", "samples=6400", "tokens=8"]) == 0
        text = capsys.readouterr().out
        assert "200 steps" in text
        assert "takes texts of its whole context" in text
        assert note in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gpu=h1000", "h100"),
        ("gpus=3", "cannot be divided evenly among 3 ranks"),
        ("mfu=1.5", "mfu=1.5 must be above 0 and at most 1"),
        ("model=classifier", "objective"),
        ("trainer.precision=64-true", "another precision"),
    ],
)
def test_what_is_wrong_is_said(arguments, override, message, capsys):
    assert main([*arguments[2:], *([] if override == "model=classifier" else arguments[:2]), override]) == 1
    assert message in capsys.readouterr().err


def test_a_row_of_the_recipes_table_is_what_is_printed():
    assert recipe_costs.row_of("clip_pubmedclip") in (REPOSITORY / "docs" / "recipes.md").read_text(encoding="utf-8")
