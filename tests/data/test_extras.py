"""What a pair has besides image and text."""

import numpy as np
import pytest

from medvlp.data.extras.labels import PairLabels
from medvlp.data.extras.masking import Masking
from medvlp.data.labels import ClassLabels
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample

TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "chest", "##y", "pain", "no", "effusion", "##s"]


class Tokenizer:
    mask_token_id, pad_token_id, all_special_ids = 3, 0, [0, 1, 2, 3]

    def __len__(self):
        return len(TOKENS)

    def convert_ids_to_tokens(self, ids):
        return [TOKENS[number] for number in ids]


def test_whole_words_are_masked_as_often_and_as_bert_does():
    masking, text = Masking.of(Tokenizer(), 0.3), [1, 4, 5, 6, 7, 8, 9, 2]
    counts = np.zeros(len(text))
    fates = {"masked": 0, "same": 0, "other": 0}
    for seed in range(4000):
        item = masking.prepare(None, "", text, np.random.default_rng(seed))
        selected = np.array(item["is_selected"])
        counts += selected
        assert selected[1] == selected[2]  # chest ##y
        assert selected[5] == selected[6]  # effusion ##s
        masked = item["masked_tokens"]
        assert [token for token, chosen in zip(masked, selected, strict=True) if not chosen] == [
            token for token, chosen in zip(text, selected, strict=True) if not chosen
        ]
        if selected[3]:
            fates["masked" if masked[3] == 3 else "same" if masked[3] == 6 else "other"] += 1
            assert masked[3] not in (0, 1, 2)
    assert counts[0] == counts[-1] == 0  # the tokenizer's own signs are not told
    assert counts[1:-1] / 4000 == pytest.approx(np.full(6, 0.3), abs=0.04)
    total = sum(fates.values())
    # one random token in six is the word itself
    assert [fates[name] / total for name in fates] == pytest.approx([0.8, 0.1 + 0.1 / 6, 0.1 * 5 / 6], abs=0.04)


def test_the_same_state_masks_the_same_words():
    masking = Masking.of(Tokenizer(), 0.5)
    items = [masking.prepare(None, "", [1, 4, 6, 7, 8, 2], np.random.default_rng(9)) for _ in range(2)]
    assert items[0] == items[1]
    fields = masking.collate([*items, masking.prepare(None, "", [1, 4, 2], np.random.default_rng(1))])
    assert fields["masked_tokens_BL"].shape == fields["is_selected_BL"].shape == (3, 6)
    assert not fields["is_selected_BL"][2, 3:].any()


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(UserError, match="has no mask token"):
        Masking.of(object(), 0.15)


HEADS = PairLabels(
    {
        "view": ClassLabels("view", ("frontal", "lateral")),
        "finding": ClassLabels("", ("nodule", "mass"), multi_label=True),
    }
)


def sample(labels):
    return Sample("k", {}, {}, labels, metadata={})


def test_labels_may_be_missing():
    items = [HEADS.prepare(sample(labels), "", [], None) for labels in ({"view": "lateral"}, {"nodule": 1})]
    targets = HEADS.collate(items)["targets"]
    assert targets["view"].tolist() == [1, -1]
    assert np.isnan(targets["finding"]).tolist() == [[True, True], [False, True]]
    with pytest.raises(BadSample, match="oblique"):
        HEADS.prepare(sample({"view": "oblique"}), "", [], None)


class Rows(list):
    def read(self, number):
        return self[number]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"view": "lateral"}, "objective.heads.finding: none of the first samples"),
        ({"view": "oblique", "mass": 0}, "k has the label 'oblique', which is no class of it; its classes are"),
    ],
)
def test_heads_that_no_sample_fits_are_refused_before_the_run(labels, message):
    HEADS.check([Rows([sample({"view": "frontal", "mass": 0})])])
    with pytest.raises(UserError, match=message):
        HEADS.check([Rows([sample(labels)])])
