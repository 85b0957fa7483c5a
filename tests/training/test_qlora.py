"""Four-bit language models: trained with adapters, saved as plain weights, resumed to the bit."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from medvlp.builders import load_assistant
from medvlp.models.llava.quantized import four_bit_layers, load_plain_state, plain_state
from tests.assistants import assistant_words, scrambled
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.runs import equal, losses, run_here, weights

bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the qlora extra")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qlora")
    tokenizer = tiny_tokenizer("chatml")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=1024, **sizes, **ids)
    scrambled(LlamaForCausalLM(config)).save_pretrained(folder / "wide")
    tokenizer.save_pretrained(folder / "wide")
    given = [word for word in assistant_words(folder) if not word.startswith("model.language.source")]
    more = [f"model.language.source={folder}/wide", "model.lora.rank=4", "model.language.quantization=nf4"]
    made = [*given, *more, "trainer.checkpoint_every=3"]
    assert run_here([*made, "run_name=whole"]) == 0
    return folder, made


def test_only_adapters_and_projector_have_changed(words):
    folder, _ = words
    first = torch.load(folder / "runs/whole/checkpoints/step-000003.ckpt", weights_only=True)["state_dict"]
    last = weights(folder / "runs/whole")
    changed = {name for name in last if not torch.equal(first[name], last[name])}
    assert changed
    assert all("lora_" in name or "projector" in name or "vision" in name for name in changed)


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(words):
    folder, made = words
    assert run_here([*made, "run_name=cut", "trainer.max_steps=3", "optim.schedule=constant"]) == 0
    assert run_here([*made, "run_name=cut", "resume=auto", "optim.schedule=constant"]) == 0
    assert run_here([*made, "run_name=unbroken", "optim.schedule=constant"]) == 0
    assert losses(folder / "runs/cut") == losses(folder / "runs/unbroken")
    assert equal(weights(folder / "runs/cut"), weights(folder / "runs/unbroken"))


def test_a_checkpoint_is_plain_and_computes_the_same_without_four_bits(words):
    folder, _ = words
    loaded = load_assistant(folder / "runs/whole/checkpoints/last.ckpt")
    assert not four_bit_layers(loaded.assistant.model)
    saved = weights(folder / "runs/whole")["model.language_model.layers.0.mlp.up_proj.base_layer.weight"]
    assert (saved.shape, saved.dtype) == ((128, 64), torch.float32)
    assert saved.view(-1, 64).unique(dim=1).shape[1] <= 64
    assert max(len(row.unique()) for row in saved.view(-1, 64)) <= 16  # NF4 has 16 values a block of 64


def test_plain_weights_go_in_and_come_out():
    layer = bitsandbytes.nn.Linear4bit(64, 8, bias=False, quant_type="nf4", compress_statistics=False)
    model = torch.nn.ModuleDict({"four": layer.to("cpu"), "plain": torch.nn.Linear(2, 2)})
    given = {"four.weight": torch.randn(8, 64), "plain.weight": torch.ones(2, 2), "plain.bias": torch.zeros(2)}
    load_plain_state(model, given)
    once = plain_state(model)
    assert torch.equal(once["plain.weight"], given["plain.weight"])
    assert 0 < float((once["four.weight"] - given["four.weight"]).abs().max()) < 1
    load_plain_state(model, once)
    assert equal(plain_state(model), once)
    with pytest.raises(RuntimeError, match=r"missing, unexpected or of another shape: \['plain\.bias'\]"):
        load_plain_state(model, {name: once[name] for name in ("four.weight", "plain.weight")})
