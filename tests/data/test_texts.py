import numpy as np

from medvlp.data.texts import class_ids, class_values, components
from medvlp.shards import BadSample, Sample


class Rows:
    """Samples by number; None cannot be read."""

    def __init__(self, *texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def read(self, row):
        if self.texts[row] is None:
            raise BadSample("checksum_mismatch")
        return Sample(f"k{row}", {}, dict(self.texts[row]))


def test_samples_that_may_show_one_text_are_one_component():
    first = Rows({"caption": "a"}, {"caption": "b", "caption_1": "c"}, {"caption": "A "}, None)
    second = Rows({"caption": "c", "title": "a"}, {"caption": "d"}, {}, {"caption": "d", "caption_1": "b"})
    component_ids = components([first, second], [["caption*"], ["caption*"]])
    assert component_ids.dtype == np.int64
    # b-c-d hang together through others; a title is not trained on; nothing is shared by what has no text
    alike = [[0, 2], [1, 4, 5, 7], [3], [6]]
    assert {tuple(np.flatnonzero(component_ids == number)) for number in component_ids} == {
        tuple(group) for group in alike
    }
    first_only = components([first, second], [["caption"], ["caption"]])
    assert {tuple(np.flatnonzero(first_only == n)) for n in first_only} == {(0, 2), (1,), (3,), (4,), (5, 7), (6,)}


def test_what_joins_pairs():
    labels, metadata = {"kind": "k0", "view": "unknown", "n": 0, "cuis": ["C1", "C2", ""]}, {"group": "a1", "site": "s"}
    made = Sample("k1", {}, {}, labels, metadata=metadata)
    other = Sample("k2", {}, {}, {"kind": "k0", "cuis": ["C2", "C3"]}, metadata={})
    values = {key: class_values(made, key) for key in ("group", "metadata.site", *(f"label.{name}" for name in labels))}
    assert values == {
        "group": ["a1"],
        "metadata.site": ["s"],
        "label.kind": ["k0"],
        "label.view": [],
        "label.n": ["0"],
        "label.cuis": ["C1", "C2"],
    }
    assert class_values(made, "label.none") == []
    assert class_ids(made, "label.kind") == class_ids(other, "label.kind")
    assert class_ids(made, "group") != class_ids(other, "group")
    assert class_ids(made, "label.view") != class_ids(other, "label.view")  # each its own: unknown joins nothing
    assert len({*class_ids(made, "label.cuis")} & {*class_ids(other, "label.cuis")}) == 1
    assert 0 <= class_ids(made, "group")[0] < 2**63
