"""Towers divided among two ranks train as whole ones do, and either's checkpoints are the other's."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from medvlp.config import ConfigError, compose
from medvlp.errors import UserError
from medvlp.models.layers import ends_in_block
from medvlp.models.parts import CLIP_PARTS
from medvlp.training.sharding import shard_towers
from tests.datasets import pairs, write_split
from tests.distributed.ranks import on_ranks, train_on_ranks
from tests.models.tiny import TINY, tiny_architecture, tiny_text_tower
from tests.runs import equal, losses, rows, tiny_words

SHARDED = "trainer.strategy=fsdp"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("sharded")
    for split, count in (("train", 48), ("valid", 139), ("test", 8)):  # three batches of an evaluation, for two ranks
        captions = [replace(s, texts={**s.texts, "caption_b": f"{s.texts['caption']} again"}) for s in pairs(count)]
        write_split(made / "made" / split, captions)
    tiny_architecture(made)
    tiny_text_tower(made / "bert")
    text = {**TINY["text_cfg"], "embed_cls": True, "output_tokens": True}
    vision = {**TINY["vision_cfg"], "output_tokens": True}
    description = {**TINY, "text_cfg": text, "vision_cfg": vision, "multimodal_cfg": {**TINY["text_cfg"], "width": 32}}
    (made / "tiny-coca.json").write_text(json.dumps({**description, "custom_text": True}))
    (made / "configs/task").mkdir(parents=True)
    task = f"name: made_retrieval\ndata: {made}/made\nkind: retrieval\n"
    (made / "configs/task/made_retrieval.yaml").write_text(task)
    return made


def words_of(folder, kind):
    words = [*tiny_words(folder), "data.global_batch_size=16", "trainer.max_steps=4", "trainer.checkpoint_every=2"]
    words += ["optim.clip_norm=0.5", "optim.ema_decay=0.5"]
    if kind == "parts":  # of a step, drawn captions, an average, and tasks on it
        task = [
            "tasks=[made_retrieval]",
            "trainer.eval_every=2",
            "trainer.forgetting=made_retrieval/image_to_text_recall@1",
        ]
        return [*words, "trainer.accumulate=2", "optim.fused=true", *task]
    if kind == "coca":
        coca = [f"model.name={folder}/tiny-coca.json", "objective.auxiliary.captioning.weight=2"]
        return [*words, *coca, "model.gradient_checkpointing=true", "model.lora.rank=2", "model.lora.dropout=0.1"]
    towers = ["model=lite_minilm", "model.name=", "model.vision.timm=test_vit", "model.vision.weights="]
    towers += ["model.image.size=160", f"model.text.huggingface={folder}/bert", "model.text.context_length=24"]
    towers += ["optim.parts.vision.freeze=true", f"objective.feature_cache={folder}/cache"]
    return [
        *words,
        *towers,
        "optim.parts.text.last_blocks=1",
        "objective.loss=sigmoid",
        "objective.positives=label.kind",
    ]


STATES = ("state_dict", "training_weights", "average")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parts", "coca", "cached"])
def test_divided_towers_are_whole_ones(folder, kind):
    words = words_of(folder, kind)

    def go_on(name, first):
        return [*words, f"run_name={kind}-{name}", f"resume={folder}/runs/{kind}-{first}/checkpoints/step-000002.ckpt"]

    jobs = [
        [*words, f"run_name={kind}-whole"],
        go_on("whole-again", "whole"),
        [*words, f"run_name={kind}-divided", SHARDED],
        [*go_on("again", "divided"), SHARDED],
        [*go_on("to-divided", "whole"), SHARDED],
        go_on("to-whole", "divided"),
    ]
    code, said = train_on_ranks(jobs, folder=folder)
    assert code == 0, said
    names = ("whole", "divided", "again", "to-divided", "to-whole", "whole-again")
    runs = {name: folder / f"runs/{kind}-{name}" for name in names}
    contents = {n: torch.load(run / "checkpoints/last.ckpt", weights_only=True) for n, run in runs.items()}
    whole = contents["whole"]
    assert losses(runs["divided"]) == pytest.approx(losses(runs["whole"]), rel=1e-5)
    norms = [[row["grad_norm"] for row in rows(runs[n] / "metrics.jsonl") if "grad_norm" in row] for n in runs]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    for name, content in contents.items():
        assert content.keys() == whole.keys()
        for state in STATES:
            assert content[state].keys() == whole[state].keys()
            for tensor, value in whole[state].items():
                assert torch.allclose(content[state][tensor], value, rtol=1e-4, atol=2e-5), (name, state, tensor)
        optimizer, expected = content["optimizer_states"][0], whole["optimizer_states"][0]
        assert optimizer["param_groups"] == expected["param_groups"]
        assert optimizer["state"].keys() == expected["state"].keys()
        for number, memory in expected["state"].items():
            for key, value in memory.items():
                assert torch.allclose(optimizer["state"][number][key], value, rtol=1e-3, atol=1e-6), (name, number, key)
    for first, again in (("divided", "again"), ("whole", "whole-again")):  # to the bit
        assert all(equal(contents[again][state], contents[first][state]) for state in STATES), first
    for run in ("whole", "divided") if kind == "parts" else ():
        forgotten = [row["forgotten"] for row in rows(runs[run] / "metrics.jsonl") if "forgotten" in row]
        assert len(forgotten) == 3, run


def shares(folder):
    """What a rank holds of each parameter, as a share of the whole."""
    from medvlp.builders import build_objective
    from medvlp.config import compose
    from medvlp.training.sharding import gathered_towers, local

    torch.distributed.init_process_group("gloo")
    module = build_objective(compose("train", tiny_words(folder))).module
    sizes = {name: parameter.numel() for name, parameter in module.model.named_parameters()}
    with torch.no_grad():
        expected = module.model.encode_image(torch.ones(2, 3, 32, 32))
    shard_towers(module.model, module.parts, torch.distributed.init_device_mesh("cpu", (2,)))
    held = {name: local(p).numel() / sizes[name] for name, p in module.model.named_parameters()}
    rank = torch.distributed.get_rank()
    with gathered_towers(module.model), torch.no_grad():
        for _ in range(1 + rank):  # one rank has more batches than the other
            assert torch.allclose(module.model.encode_image(torch.ones(2, 3, 32, 32)), expected)
    assert {name: local(p).numel() / sizes[name] for name, p in module.model.named_parameters()} == held
    (folder / f"shares-{rank}.json").write_text(json.dumps(held))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_rank_holds_half_of_the_towers_and_all_of_heads_and_scale(folder):
    code, said = on_ranks(shares, 2, folder)
    assert code == 0, said
    held = json.loads((folder / "shares-0.json").read_text())
    whole = {name for name, share in held.items() if share == 1}
    assert whole == {
        "logit_scale",
        "text_projection",
        "visual.proj",
        "positional_embedding",
        "ln_final.weight",
        "ln_final.bias",
    }
    assert all(0.5 <= share < 0.55 for name, share in held.items() if name not in whole)  # of 17 positions, 9


@pytest.mark.slow
def test_one_rank_alone_trains_and_captures_as_two_do(folder):
    words = [*words_of(folder, "parts"), SHARDED, "optim.lr=1e30", "optim.warmup_steps=0"]
    captures = []
    for ranks in (1, 2):
        code, said = train_on_ranks([[*words, f"run_name=broken{ranks}"]], ranks=ranks, folder=folder)
        assert code == 1
        assert "computes it again" in said
        captures.append(next((folder / f"runs/broken{ranks}/non_finite").rglob("weights.pt")))
    shapes = [{n: v.shape for n, v in torch.load(c, weights_only=True)["state_dict"].items()} for c in captures]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["trainer.precision=16-mixed"], r"with trainer.strategy=fsdp, trainer.precision='16-mixed' is not a choice"),
        (["trainer.compile=true"], "trainer.compile=true was not tried with trainer.strategy=fsdp"),
        (
            ["recipes=classify_breastmnist"],
            r"divides a CLIP's towers \(objective=contrastive\), not what objective=classify",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(change, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        compose("train", [*(change if "recipes" in change[0] else [*tiny_words(tmp_path), *change]), SHARDED])


def test_batch_norm_that_trains_is_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with pytest.raises(UserError, match=r"trainer.strategy=fsdp: batch norm trains in 1, .*trainer.strategy=ddp"):
        shard_towers(model, CLIP_PARTS, None)


@pytest.mark.parametrize(
    ("name", "is_block"),
    [
        ("visual.transformer.resblocks.0", True),
        ("visual.trunk.blocks.11", True),
        ("text.transformer.encoder.layer.3", True),
        ("visual.layer1", True),
        ("visual.transformer.resblocks", False),
        ("visual.trunk.stages.0.blocks.1", False),
        ("text.transformer.encoder.layer.3.attention", False),
    ],
)
def test_blocks_are_told_from_their_parts(name, is_block):
    assert ends_in_block(name) == is_block
