import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.captions.template_files import load_templates
from data_prep.errors import PrepError
from data_prep.vocabulary.text import numbered_captions
from medvlp.config import list_options
from medvlp.wording.label_captions import UNCLEAR, GapError, NoCaption, Templates, fold, with_article
from tests.conftest import REPOSITORY

SHIPPED = sorted(path.stem for path in (REPOSITORY / "configs" / "templates").glob("*.yaml"))
XRAY = """
modality: X-ray
fields: {subject: chest X-ray}
templates: ["{a subject} showing {label}", "{label} on {a subject}."]
negated: ["{a subject} showing {label}"]
normal:
  labels: [no finding, normal]
  templates: ["{a subject} without an abnormal finding"]
labels:
  mass: [a mass, a lung mass]
  "0": no pneumonia
"""


@pytest.fixture
def load(tmp_path):
    def write(text: str) -> Templates:
        (tmp_path / "mine.yaml").write_text(text)
        return load_templates(str(tmp_path / "mine.yaml"))

    return write


def test_a_caption_for_every_template_and_words_that_take_turns(load):
    templates = load(XRAY)
    said = Counter(tuple(templates.captions(["Mass"], f"key-{n}")) for n in range(200))
    assert set(said) == {
        ("a chest X-ray showing a mass", "A lung mass on a chest X-ray."),
        ("a chest X-ray showing a lung mass", "A mass on a chest X-ray."),
    }
    assert min(said.values()) > 60
    assert templates.captions(["Mass"], "key-0") == templates.captions(["Mass"], "key-0")


@pytest.mark.parametrize(
    ("labels", "first"),
    [
        (["Pleural_Thickening"], "a chest X-ray showing Pleural Thickening"),
        (["pneumonia", "edema", "COVID-19"], "a chest X-ray showing pneumonia, edema and COVID-19"),
        (["pneumonia", "edema"], "a chest X-ray showing pneumonia and edema"),
        (["No_Finding"], "a chest X-ray without an abnormal finding"),
        (["NORMAL", "no-finding"], "a chest X-ray without an abnormal finding"),
        (["no_effusion"], "a chest X-ray showing no effusion"),
        (["without effusion", "Not pneumonia"], "a chest X-ray showing no effusion and no pneumonia"),
        (["0"], "a chest X-ray showing no pneumonia"),
        (["no effusion", "edema"], "a chest X-ray showing edema"),
        (["Nodule"], "a chest X-ray showing Nodule"),  # a word that only begins with the letters
        (["non-small cell lung cancer"], "a chest X-ray showing non-small cell lung cancer"),
        (["{label} {subject.__class__}"], "a chest X-ray showing {label} {subject. class }"),
    ],
)
def test_labels_in_words(load, labels, first):
    assert load(XRAY).captions(labels, "key")[0] == first


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["normal", "edema"], "contradictory_labels"),
        (["no finding", "no effusion"], "contradictory_labels"),
        (["yes"], "unclear_label"),
        (["Negative"], "unclear_label"),
        (["1"], "unclear_label"),
        (["3.0"], "unclear_label"),
        (["edema", "other"], "unclear_label"),
    ],
)
def test_labels_that_make_no_caption(load, labels, reason):
    with pytest.raises(NoCaption) as raised:
        load(XRAY).captions(labels, "key")
    assert raised.value.reason == reason


def test_a_file_without_sentences_for_negations_refuses_them(load):
    with pytest.raises(NoCaption, match="has none for labels that negate, as 'no edema' does"):
        load("templates: ['{label}']").captions(["no edema"], "key")


def test_columns_fill_gaps_and_are_never_read_again(load):
    templates = load("fields: {sex: patient}\ntemplates: ['{label}, {a sex}, {age}', '{label}']")
    templates.check_gaps(["age", "sex"])
    assert templates.columns() == ["sex", "age"]
    assert templates.captions(["edema"], "k", {"age": "60 {label}", "sex": ""}) == [
        "edema, a patient, 60 {label}",
        "edema",
    ]
    assert templates.captions(["edema"], "k", {"age": "", "sex": "woman"}) == ["edema"]
    with pytest.raises(GapError, match=r"has the gap \{age\}, which nothing fills; there are label, sex, height"):
        templates.check_gaps(["height"])
    with pytest.raises(NoCaption, match="whose column is empty here"):
        load("templates: ['{label} at {age}']").captions(["edema"], "k", {"age": ""})


def is_clear(label):
    return re.search(r"[^\W\d_]", label) and fold(label) not in UNCLEAR


@given(st.text(min_size=1, max_size=40).filter(is_clear), st.text(max_size=20))
def test_whatever_a_label_is_it_stands_in_the_caption_as_it_is(label, key):
    templates = Templates("t", "", ("{label}!",), ("{label}!",))
    words = " ".join(label.replace("_", " ").split())
    expected = re.sub(r"(?i)^(no|not|without|absence of) ", "no ", words) + "!"
    assert templates.captions([label], key) == [expected]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("MRI", "an"),
        ("MR image", "an"),
        ("CT", "a"),
        ("X-ray", "an"),
        ("PET scan", "a"),
        ("SPECT scan", "a"),
        ("FLAIR image", "a"),
        ("US image", "a"),
        ("OCT", "an"),
        ("H&E-stained slide", "an"),
        ("T1-weighted image", "a"),
        ("HER2-positive tumor", "a"),
        ("ultrasound image", "an"),
        ("ulcer", "an"),
        ("unremarkable scan", "an"),
        ("uninvolved margin", "an"),
        ("umbilical hernia", "an"),
        ("urgent case", "an"),
        ("unilateral effusion", "a"),
        ("ureter", "a"),
        ("urinary stone", "a"),
        ("uterus", "a"),
        ("uveal melanoma", "a"),
        ("European patient", "a"),
        ("one-sided opacity", "a"),
        ("hour-glass deformity", "an"),
        ("histology image", "a"),
        ("8 mm nodule", "an"),
        ("18-gauge needle", "an"),
        ("80-year-old man", "an"),
        ("1 cm nodule", "a"),
        ("endoscopic image", "an"),
        ("image", "an"),
        ("medical image", "a"),
        ("(left) kidney", "a"),
        ("", "a"),
    ],
)
def test_articles(phrase, expected):
    assert with_article(phrase) == f"{expected} {phrase}"


def test_fields_of_texts():
    assert numbered_captions(["first", "second", "third"]) == {
        "caption": "first",
        "caption_1": "second",
        "caption_2": "third",
    }
    assert numbered_captions([]) == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("templates: [", "mine.yaml is not YAML"),
        ("[]", "the file is a list; expected names with values"),
        ("{}", "templates lists no sentence"),
        ("templates: '{label}'", "templates is a str; expected a list of texts"),
        ("templates: []", "templates lists no sentence"),
        (
            "template: ['{label}']",
            "template is not known; did you mean 'templates'? expected modality, fields, templates",
        ),
        ("templates: ['an image']", "templates has 'an image'; it has no gap {label}"),
        ("templates: ['{label} {label.__class__}']", "has the gap {label.__class__}, which nothing fills"),
        ("templates: ['{label} {']", "templates has '{label} {'; braces hold a name alone"),
        ("templates: ['{} {label}']", "braces hold a name alone"),
        ("templates: ['{0} {label}']", "braces hold a name alone"),
        ("templates: ['{label}']\nnormal: {labels: [normal]}", "normal has only one of labels and templates"),
        (
            "templates: ['{label}']\nnormal: {labels: [normal], templates: ['{label}']}",
            "it has a gap {label}, which would say 'normal' as if it were a finding",
        ),
        ("templates: ['{label}']\nlabels: {no: a}", "a name in labels is False; expected a text; put it in quotes"),
        ("templates: ['{label}']\nlabels: {a: [x, no]}", r"labels.a[1] is False; expected a text; put it in quotes"),
        ("templates: ['{label}']\nlabels: {a: [x, no x]}", "labels.a mixes words that begin with 'no' and others"),
        ("templates: ['{label}']\nlabels: {a: []}", "labels.a is empty"),
        ("templates: ['{label}']\nlabels: {a-b: x, A_B: y}", "labels.A_B is there already, but for case"),
        (
            "templates: ['{label}']\nnormal: {labels: [ok], templates: [fine]}\nlabels: {OK: x}",
            "labels describes 'ok', which normal.labels has too",
        ),
        ("!!python/object/apply:os.system ['true']", "is not YAML: could not determine a constructor"),
        (
            "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]\n" for n in range(9)),
            "its aliases make",
        ),
        ("templates: ['" + "x" * 2**20 + "{label}']", "expected at most 1048576"),
    ],
)
def test_files_that_are_refused(load, text, complaint):
    with pytest.raises((PrepError, GapError), match=re.escape(complaint)):
        load(text).check_gaps([])


def test_names_are_found_in_the_working_folder_and_then_among_the_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        PrepError, match=r"options.templates='generik' is not known; did you mean 'generic'\? available: brain_mri"
    ):
        load_templates("generik")
    with pytest.raises(PrepError, match=r"templates=no.yaml: there is no such file"):
        load_templates("no.yaml")
    (tmp_path / "configs" / "templates").mkdir(parents=True)
    Path("configs/templates/generic.yaml").write_text("templates: ['my {label}']")
    assert load_templates("generic").captions(["mass"], "k") == ["my mass"]
    assert load_templates("chest_xray").modality == "X-ray"


def test_what_is_shipped():
    assert {"generic", "chest_xray", "chest_ct", "dermatology", "histology", "fundus", "ultrasound"} <= set(SHIPPED)
    assert list_options("configs/templates")["chest_ct"].startswith("Chest CT, slices or volumes")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_sentence_reads_well(name):
    templates = load_templates(name)
    templates.check_gaps([])
    captions = [c for label in templates.words for k in "ab" for c in templates.captions([label], k)]
    captions += [c for label in templates.normal_labels for c in templates.captions([label], "k")]
    several = [label for label, words in templates.words.items() if not words[0].startswith("no ")][:3]
    captions += templates.captions(several, "k")
    assert len(captions) > 40
    for caption in captions:
        assert not re.search(r"[{}_]|\bNone\b|\bnan\b|\s\s", caption), caption
        assert not re.search(r"\ba [aeio]|\ban [bcdfgjkpqtvwyz]|\b(an?|the) (an?|the|no)\b", caption), caption
        assert not re.search(r"\b(with|of|in) no\b", caption), caption
    for label in templates.normal_labels:  # what finds nothing does not name the label as if it were something
        assert not any(f"showing {label}" in caption for caption in templates.captions([label], "k"))


def test_published_class_names():
    said = {
        ("chest_xray", "Pleural_Thickening"): "a chest X-ray showing pleural thickening",
        ("chest_xray", "No Finding"): "a chest X-ray without an abnormal finding",
        ("chest_ct", "Cap"): "a chest CT showing community-acquired pneumonia",
        ("brain_mri", "notumor"): "a brain MRI showing no tumor",
        ("dermatology", "nv"): "an image of a skin lesion: a melanocytic nevus",
        ("histology", "TUM"): "a histology image showing colorectal adenocarcinoma epithelium",
        ("histology", "lung_aca"): "a histology image showing lung adenocarcinoma",
        ("diabetic_retinopathy", "0"): "a fundus photograph showing no diabetic retinopathy",
        ("diabetic_retinopathy", "4"): "a fundus photograph showing proliferative diabetic retinopathy",
        ("diabetic_retinopathy", "No_DR"): "a fundus photograph showing no diabetic retinopathy",
        ("ultrasound", "benign"): "an ultrasound image showing a benign lesion",
        ("endoscopy", "dyed-resection-margins"): "an endoscopic image showing dyed resection margins",
        ("generic", "malignant"): "a medical image showing a malignant lesion",
    }
    for (name, label), caption in said.items():
        keys = (f"key-{n}" for n in range(20))
        assert caption in {load_templates(name).captions([label], key)[0] for key in keys}
