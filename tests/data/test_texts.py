from collections import Counter

import numpy as np
import pytest

from medvlp.config.templates.files import load_templates
from medvlp.data.texts import FieldTexts, JoinedTexts, LabelTexts, choose_text, class_ids, class_values, components
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample
from medvlp.wording.joined import JoinedTemplate, TemplateError, field_text


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
    component_ids = components([first, second], [FieldTexts(("caption*",))] * 2)
    assert component_ids.dtype == np.int64
    # b-c-d hang together through others; a title is not trained on; nothing is shared by what has no text
    alike = [[0, 2], [1, 4, 5, 7], [3], [6]]
    assert {tuple(np.flatnonzero(component_ids == number)) for number in component_ids} == {
        tuple(group) for group in alike
    }
    first_only = components([first, second], [FieldTexts(("caption",))] * 2)
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


def sample(**changes):
    usual = {
        "texts": {"caption": "a {references} mass", "references": "Fig. 1 shows it. "},
        "labels": {
            "finding": "Mass",
            "cuis": ["C1", "C2"],
            "states": {"edema": 1, "mass": 0, "cyst": -1},
            "grade": 2.0,
        },
        "metadata": {"ontology": "skin > tumour"},
    }
    return Sample("k1", **{**usual, **changes})


def templates(**texts):
    return {name: JoinedTemplate.read(text, f"data.sources.a.text_templates.{name}") for name, text in texts.items()}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{caption}[ {references}]", "a {references} mass Fig. 1 shows it."),  # values are not read again
        ("{caption}[ See: {metadata.none}].", "a {references} mass."),
        ("{label.cuis}; {label.states}; {label.grade}", "C1, C2; edema; 2"),
        ("[{metadata.none}: ]{label.finding}, {metadata.ontology}", "Mass, skin > tumour"),
        ("{caption} {none}", ""),
        ("[{metadata.none}]", ""),
    ],
)
def test_a_template_joins_fields(template, text):
    made = templates(t=template)["t"].filled(lambda name: field_text(sample(), name))[0]
    assert made == text


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{caption.__class__}", None),  # a name like any other, which no sample has
        ("{caption!r}", "braces hold the name"),
        ("{0}", "braces hold the name"),
        ("{}", "braces hold the name"),
        ("{caption} [a [{b}]]", "braces hold the name"),
        ("{caption} [a", "braces hold the name"),
        ("{caption}[ always]", "has no field in it"),
        ("a mass", "names no field"),
    ],
)
def test_a_template_is_data(template, complaint):
    if complaint:
        with pytest.raises(TemplateError, match=complaint) as raised:
            templates(t=template)
        assert str(raised.value).startswith("data.sources.a.text_templates.t=")
        return
    texts = JoinedTexts(templates(t=template))
    with pytest.raises(BadSample, match="empty_caption"):
        texts.candidates(sample())
    message = (
        r"^data.sources.a.text_templates.t=.*none of 1 samples of made/train has 'caption.__class__'.*they have caption"
    )
    with pytest.raises(UserError, match=message):
        texts.check("data.sources.a", lambda: [sample()], "made/train")


def draws(texts, made, count=4000):
    return Counter(choose_text(made, texts, np.random.default_rng(seed)).text for seed in range(count))


def test_texts_are_drawn_by_their_weights_among_those_that_a_sample_has():
    texts = FieldTexts(("caption*", "references", "title"), {"caption*": 3, "references": 1, "title": 4})
    made = sample(texts={"caption": "a", "caption_1": "b", "references": "r"})
    counts = draws(texts, made)
    for text, share in {"a": 3 / 8, "b": 3 / 8, "r": 1 / 4}.items():  # without the title's weight
        assert abs(counts[text] / 4000 - share) < 3.5 * (share * (1 - share) / 4000) ** 0.5
    assert choose_text(made, texts, np.random.default_rng(0)).missing == ("title",)
    joined = JoinedTexts(
        templates(all="{caption} {title}", one="{caption}", two="{references}[ {title}]"),
        {"all": 9, "one": 1, "two": 3},
    )
    counts = draws(joined, made)
    assert set(counts) == {"a", "r"}
    assert abs(counts["r"] / 4000 - 3 / 4) < 0.025
    assert {candidate.missing for candidate in joined.candidates(made)} == {("title",)}


def test_a_label_is_captioned_by_every_template_of_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "fields: {subject: CT}\ntemplates: ['{a subject} of {label}', '{label}, {age} years']\n"
        "normal: {labels: [normal], templates: [nothing]}\nlabels: {mass: [a mass, a lump]}"
    )
    texts = LabelTexts("finding", load_templates(str(tmp_path / "mine.yaml"), "key"))

    def captions(label, **metadata):
        candidates = texts.candidates(sample(labels={"finding": label}, metadata=metadata))
        return sorted(candidate.text for candidate in candidates), candidates[0].missing

    assert captions("Mass") in [(["a CT of a mass"], ("age",)), (["a CT of a lump"], ("age",))]
    assert captions(["cyst", "normal"], age=60) == (["a CT of cyst", "cyst, 60 years"], ())
    assert captions("normal", age=60) == (["nothing"], ())
    assert len(draws(texts, sample(metadata={"age": 60}), 50)) == 2
    for label, reason in (("0", "unclear_label"), (None, "empty_caption"), ([], "empty_caption")):
        with pytest.raises(BadSample, match=reason):
            captions(label)
    with pytest.raises(
        UserError, match=r"templates 'mine': .* has the gap \{age\}, which nothing fills; there are label"
    ):
        texts.check("data.sources.a", lambda: [sample()], "made/train")
    with pytest.raises(UserError, match=r"label_captions=findng: none of 1 .* \(did you mean 'finding'\?\); "):
        LabelTexts("findng", texts.templates).check("data.sources.a", lambda: [sample()], "made/train")
