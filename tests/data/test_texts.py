import numpy as np

from medvlp.data.texts import class_id, class_value, components
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


def test_what_makes_pairs_right_for_each_other():
    made = Sample("k1", {}, {}, {"kind": "k0", "view": "unknown", "n": 0}, metadata={"group": "a1"})
    other = Sample("k2", {}, {}, {"kind": "k0"}, metadata={})
    assert [class_value(made, key) for key in ("group", "label.kind", "label.view", "label.n", "label.none")] == [
        "a1",
        "k0",
        "",
        "0",
        "",
    ]
    assert class_id(made, "label.kind") == class_id(other, "label.kind")
    assert class_id(made, "group") != class_id(other, "group")
    assert class_id(made, "label.view") != class_id(other, "label.view")  # each its own: unknown joins nothing
    assert 0 <= class_id(made, "group") < 2**63
