"""What a run may switch on: averages of weights, parts of towers, memory for time, precisions, steps that give no numbers."""

import json

import pytest
import torch

from medvlp.training.objectives.contrastive import Contrastive
from medvlp.verbs.models.replay import main as replay
from tests.datasets import pairs, write_split
from tests.models.tiny import TINY, tiny_architecture, tiny_text_tower
from tests.runs import equal, losses, rows, run_here, tiny_words, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, architecture, and a plain run."""
    made = tmp_path_factory.mktemp("switches")
    write_split(made / "made/train", pairs(24))
    tiny_architecture(made)
    assert run_here([*words_of(made), "run_name=plain"]) == 0
    return made


def words_of(folder):
    return [*tiny_words(folder), "trainer.max_steps=4", "trainer.checkpoint_every=1"]


@pytest.fixture
def words(folder):
    return words_of(folder)


def checkpoint(folder, name, step):
    return torch.load(folder / f"runs/{name}/checkpoints/step-{step:06d}.ckpt", weights_only=True)


def test_averages_are_saved_evaluated_and_gone_on_from(folder, words, monkeypatch):
    assert run_here([*words, "optim.ema_decay=0.5", "run_name=average"]) == 0
    contents = [checkpoint(folder, "average", step) for step in (2, 3, 4)]
    assert equal(contents[2]["training_weights"], weights(folder / "runs/plain"))
    average = contents[0]["average"]
    for step, content in ((3, contents[1]), (4, contents[2])):
        share = min(0.5, (1 + step) / (10 + step))
        for name, value in content["training_weights"].items():
            if name in average:
                expected = share * average[name] + (1 - share) * value
                assert torch.allclose(content["average"][name], expected, rtol=1e-6, atol=1e-8), name
                assert torch.equal(content["state_dict"][name], content["average"][name])
        average = content["average"]
    assert not equal(contents[2]["state_dict"], contents[2]["training_weights"])
    resume = f"resume={folder}/runs/average/checkpoints/step-000002.ckpt"
    assert run_here([*words, "optim.ema_decay=0.5", "run_name=average-resumed", resume]) == 0
    resumed = checkpoint(folder, "average-resumed", 4)
    for kind in ("state_dict", "training_weights", "average"):
        assert equal(resumed[kind], contents[2][kind]), kind


def test_an_average_stands_in_for_the_weights_while_it_is_evaluated():
    from medvlp.training.steps.averaging import WeightAverage

    model = torch.nn.BatchNorm1d(2)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1)
        model.running_mean.add_(2)
    average.update(1)  # keeps 2/11
    with average.in_place():
        assert torch.allclose(model.weight, torch.full((2,), 1 + 9 / 11))
        assert torch.allclose(model.running_mean, torch.full((2,), 18 / 11))
    assert torch.equal(model.weight, torch.full((2,), 2.0))
    assert torch.equal(model.running_mean, torch.full((2,), 2.0))


@pytest.mark.parametrize("switch", ["model.gradient_checkpointing=true", "optim.fused=true"])
def test_memory_and_kernels_change_nothing(folder, words, switch):
    name = switch.partition("=")[0]
    assert run_here([*words, switch, f"run_name={name}"]) == 0
    assert losses(folder / "runs" / name) == pytest.approx(losses(folder / "runs/plain"), rel=1e-5)


def test_parts_of_a_tower_learn_each_at_its_rate(folder, words):
    parts = ["optim.parts.vision.last_blocks=1", "optim.parts.text.layer_decay=0.5", "model.patch_dropout=0.5"]
    assert run_here([*words, *parts, "run_name=parts", "trainer.max_steps=1"]) == 0
    after = checkpoint(folder, "parts", 1)
    groups = {group["name"]: group["initial_lr"] for group in after["optimizer_states"][0]["param_groups"]}
    assert groups["text 1"] == 2 * groups["text 0"] == groups["vision"] == 2e-3
    assert run_here([*words, *parts, "run_name=parts2", "trainer.max_steps=2"]) == 0
    later = checkpoint(folder, "parts2", 2)["state_dict"]
    assert torch.equal(later["visual.conv1.weight"], after["state_dict"]["visual.conv1.weight"])  # frozen
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert not torch.equal(later[name], after["state_dict"][name])


def test_half_towers_have_a_scale_that_learns(folder, words):
    assert run_here([*words, "trainer.precision=bf16-true", "run_name=half", "trainer.max_steps=2"]) == 0
    states = [checkpoint(folder, "half", step)["state_dict"] for step in (1, 2)]
    assert states[0]["visual.conv1.weight"].dtype == torch.bfloat16
    scales = [state["logit_scale"] for state in states]
    assert scales[0].dtype == torch.float32
    assert 0 < abs(float(scales[1] - scales[0])) < 2**-6
    resume = f"resume={folder}/runs/half/checkpoints/step-000001.ckpt"
    assert run_here([*words, "trainer.precision=bf16-true", "run_name=half2", "trainer.max_steps=2", resume]) == 0
    assert equal(checkpoint(folder, "half2", 2)["state_dict"], states[1])


def spoil(monkeypatch, key):
    """A loss without a number for one sample's batch."""
    loss_of = Contrastive.loss_of

    def spoiled(self, features, batch):
        loss, values = loss_of(self, features, batch)
        return loss * (float("nan") if key in batch.keys else 1.0), values

    monkeypatch.setattr(Contrastive, "loss_of", spoiled)


def test_a_step_without_numbers_is_skipped_captured_and_replayed(folder, words, monkeypatch, capsys):
    samples = rows(folder / "runs/plain/samples.jsonl")
    key = samples[1]["keys"][0]
    with monkeypatch.context() as patch:
        spoil(patch, key)
        patch.setattr("medvlp.training.fit.try_longest", lambda *args: None)
        skipping = [*words, "trainer.non_finite=skip", "trainer.max_steps=3", "run_name=skipped"]  # one epoch
        assert run_here(skipping) == 0
        run = folder / "runs/skipped"
        assert [row["step"] for row in rows(run / "skipped_steps.jsonl")] == [2]
        assert rows(run / "skipped_steps.jsonl")[0]["keys"] == samples[1]["keys"]
        assert [row["step"] for row in rows(run / "metrics.jsonl")] == [1, 3]
        assert equal(checkpoint(folder, "skipped", 1)["state_dict"], checkpoint(folder, "skipped", 2)["state_dict"])
        assert f"`medvlp replay {run}/non_finite/step-000002`" in capsys.readouterr().out
        assert replay([f"{run}/non_finite/step-000002"]) == 1
        assert "loss: nan" in capsys.readouterr().out
        assert run_here([*words, "run_name=stops"]) == 1
        assert "the loss is nan at step 2" in capsys.readouterr().err
        assert run_here([*skipping[:-1], "run_name=budget", "trainer.max_skipped=0"]) == 1
        assert "more than trainer.max_skipped=0 allow" in capsys.readouterr().err
    assert replay([f"{run}/non_finite/step-000002"]) == 0
    said = capsys.readouterr().out
    assert f"loss: {losses(folder / 'runs/plain')[1]:.5f}"[:12] in said
    assert "everything is finite here" in said


def test_a_capture_names_the_module_where_numbers_end(folder, words, capsys):
    assert run_here([*words, "optim.lr=1e30", "optim.warmup_steps=0", "run_name=overflow"]) == 1
    capture = next((folder / "runs/overflow/non_finite").iterdir())
    capsys.readouterr()
    assert replay([str(capture)]) == 1
    said = capsys.readouterr().out
    assert "first module with finite inputs and an output that is not: visual" in said
    assert "samples whose features are not finite: made__a" in said
    assert replay([str(capture.parent)]) == 1
    assert "no such file; a capture is a folder" in capsys.readouterr().err


LORA = ["model.lora.rank=2", "model.lora.alpha=4", "model.lora.dropout=0.1"]


def test_adapters_learn_alone_and_are_merged_in_what_others_open(folder, words):
    import medvlp

    lora = [*words, *LORA, "optim.ema_decay=0.5"]
    assert run_here([*lora, "run_name=lora"]) == 0
    content = checkpoint(folder, "lora", 4)
    plain, trained = content["state_dict"], content["training_weights"]
    name = "visual.transformer.resblocks.0.mlp.c_fc"
    assert plain.keys() == weights(folder / "runs/plain").keys()
    low, high = (content["average"][f"{name}.lora_{matrix}.default.weight"] for matrix in "AB")
    expected = trained[f"{name}.base_layer.weight"] + 2 * high @ low
    assert high.abs().max() > 0
    assert torch.allclose(plain[f"{name}.weight"], expected, atol=1e-7)
    model, _, _ = medvlp.load(folder / "runs/lora/checkpoints/last.ckpt")
    assert torch.equal(model.visual.transformer.resblocks[0].mlp.c_fc.weight, plain[f"{name}.weight"])
    first = checkpoint(folder, "lora", 2)["training_weights"]
    frozen = [key for key in first if "base_layer" in key or ("resblocks" in key and "lora_" not in key)]
    assert all(torch.equal(first[key], trained[key]) for key in frozen)
    assert not torch.equal(first["text_projection"], trained["text_projection"])
    resume = f"resume={folder}/runs/lora/checkpoints/step-000002.ckpt"
    assert run_here([*lora, "run_name=lora-resumed", resume]) == 0
    assert equal(checkpoint(folder, "lora-resumed", 4)["training_weights"], trained)
    start = f"init_from={folder}/runs/plain/checkpoints/last.ckpt"
    assert run_here([*words, *LORA, "run_name=lora-from", start, "trainer.max_steps=1"]) == 0
    beginning = checkpoint(folder, "lora-from", 1)["training_weights"][f"{name}.base_layer.weight"]
    assert torch.equal(beginning, weights(folder / "runs/plain")[f"{name}.weight"])


def test_merged_adapters_give_what_the_adapters_give(folder):
    import open_clip

    from medvlp.models.clip.adapters import add_adapters

    torch.manual_seed(0)
    model, plain = (open_clip.CLIP(TINY["embed_dim"], TINY["vision_cfg"], TINY["text_cfg"]).eval() for _ in range(2))
    model.visual.proj.requires_grad_(False)
    adapters = add_adapters(model, ["vision"], rank=3, alpha=6, dropout=0.0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    plain.load_state_dict(adapters.merged(model.state_dict()))
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(model.eval().encode_image(images), plain.encode_image(images), atol=1e-5)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in learning if name.startswith("visual")} == {n for n in learning if ".lora_" in n}
    assert {"logit_scale", "text_projection", "token_embedding.weight"} <= learning  # as before


@pytest.mark.slow  # two minutes of compilers
@pytest.mark.parametrize("towers", ["open_clip", "transformers"])
def test_compiled_towers_give_the_losses_of_eager_ones(folder, words, towers):
    if towers == "transformers":
        tower = tiny_text_tower(folder / "bert")  # which drops, as patches are dropped
        text = {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower), "hf_pooler_type": "mean_pooler"}
        description = {**TINY, "text_cfg": {**text, "hf_model_pretrained": False, "context_length": 24}}
        (folder / "bert-clip.json").write_text(json.dumps(description))
        words = [word.replace("tiny-clip.json", "bert-clip.json") for word in words]
    words = [
        *words,
        *LORA,
        "trainer.max_steps=3",
        "trainer.accumulate=2",
        "optim.ema_decay=0.5",
        "model.patch_dropout=0.5",
    ]
    words += ["data.global_batch_size=16"]
    assert run_here([*words, f"run_name=eager-{towers}"]) == 0
    assert run_here([*words, f"run_name=compiled-{towers}", "trainer.compile=true"]) == 0
    eager, compiled = (folder / f"runs/{name}-{towers}" for name in ("eager", "compiled"))
    assert losses(compiled) == pytest.approx(losses(eager), rel=1e-5)
    assert weights(compiled).keys() == weights(eager).keys()
