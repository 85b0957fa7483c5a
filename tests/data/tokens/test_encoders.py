import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from medvlp.data.pairs import Tokenize
from medvlp.data.tokens.encoders import Unpadded, WordLookup, encoder_of

TEXTS = [
    "",
    "  Chest X-ray, PA view:\n\tno\r\neffusion. ",
    "&lt;b&gt; it's &amp;amp; 3x5 mm",
    "“Quotes” – naïve ﬁbrosis ≥ 5 µm，Ａ",
    "schÃ¶n \x1b[31mred\x0c end\x00",
    "<start_of_text> [CLS] x [SEP] [MASK] <END_OF_TEXT>",
    "word " * 200,
    "a" * 400,
]
text_strategy = st.text(st.characters(max_codepoint=0x2FF), max_size=40) | st.text(
    "abcXYZ &;#<'\n\t\r\x0b9.", max_size=40
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    signs = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:-'", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate([*signs, *pieces])}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    folder = tmp_path_factory.mktemp("bert")
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", **names).save_pretrained(folder)
    return HFTokenizer(str(folder), context_length=32)


@pytest.fixture(scope="module")
def clip():
    return SimpleTokenizer(context_length=32)


@pytest.mark.parametrize("name", ["clip", "bert"])
def test_ids_are_those_of_the_tokenizer(name, request):
    tokenizer = request.getfixturevalue(name)
    encode = pickle.loads(pickle.dumps(encoder_of(tokenizer)))
    assert type(encode) is (WordLookup if name == "clip" else Unpadded)
    whole = Tokenize(tokenizer, 0, 32)

    @settings(max_examples=60)
    @given(text_strategy)
    def check(text):
        expected = tokenizer([text])[0].tolist()
        assert (encode(text) + [0] * 32)[:32] == expected
        assert whole(text) == expected

    for text in TEXTS:
        check.hypothesis.inner_test(text)
    check()


def test_words_beyond_the_most_are_forgotten(clip, monkeypatch):
    monkeypatch.setattr("medvlp.data.tokens.encoders.MOST_WORDS", 3)
    encode = WordLookup(clip)
    for text in ("a b c d e f a b", "a b c d e f a b"):
        assert encode(text) == clip([text])[0].tolist()
        assert len(encode.ids_of_words) <= 3


def test_other_tokenizers_are_asked_as_they_are(clip, bert):
    reducing = SimpleTokenizer(context_length=32, reduction_mask="simple")
    stripping = HFTokenizer(bert.tokenizer.name_or_path, context_length=32, strip_sep_token=True)
    assert not isinstance(encoder_of(reducing), WordLookup)
    assert not isinstance(encoder_of(stripping), Unpadded)
    assert encoder_of(lambda texts: torch.tensor([[len(texts[0]), 0]]))("four") == [4, 0]
