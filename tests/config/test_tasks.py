"""Task files: each kind has its own options and rules."""

import pytest

from medvlp.config import ConfigError, RetrievalConfig, VqaConfig, WrittenTextConfig, ZeroShotConfig, load_task

ZERO_SHOT = "kind: zero_shot\nlabel: hue\nclasses: {red: [red], green: [green]}\ntemplates: ['{}']\n"
TEXT = "kind: text\ninstruction: Describe it.\n"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/task").mkdir(parents=True)

    def of(text):
        (tmp_path / "configs/task/mine.yaml").write_text(f"name: mine\ndata: d\n{text}")
        return load_task("mine")

    return of


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (ZERO_SHOT, ZeroShotConfig),
        ("kind: retrieval\n", RetrievalConfig),
        ("kind: vqa\n", VqaConfig),
        (TEXT, WrittenTextConfig),
    ],
)
def test_a_task_has_the_options_of_its_kind(load, text, options):
    assert type(load(text)) is options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: retrieval\nlabel: x\n",
            r"mine.yaml: label is an option of kind: zero_shot or .*, and this task is of kind: retrieval",
        ),
        (
            ZERO_SHOT + "valid_limit: 3\n",
            r"valid_limit is an option of kind: vqa or text or error_check, .*: zero_shot, whose keys are name, kind",
        ),
        ("kind: vqa\nrecall_at: [1]\n", r"recall_at is an option of kind: retrieval"),
        (
            "kind: vqa\nlanguage: [en]\n",
            r"unknown key 'language'; did you mean 'languages'\? Keys of kind: vqa: name, kind",
        ),
        ("kind: vqq\n", r"task mine: kind='vqq' is not a choice; did you mean 'vqa'"),
        ("split: test\n", r"mine.yaml: kind is not set; give one of zero_shot, "),
        ("kind: vqa\nmax_new_tokens: 0\n", r"max_new_tokens=0 must be at least 1"),
        ("kind: vqa\nvalid_limit: -1\n", r"valid_limit=-1 must be at least 0"),
        ("kind: text\n", r"task mine: instruction is empty; say what the model is to write"),
        (TEXT + "references: []\n", r"references=\[\], expected text fields"),
        (TEXT + "source: caption\n", r"source=caption is a reference too: the model would be given the answer"),
        ("kind: text\ninstruction: Sum up {text}\n", r"instruction has {text}, and source names no text field"),
        (TEXT + "show_images: false\n", r"show_images=false and no source"),
        (TEXT + "metrics: [bleu, bleu]\n", r"metrics=\['bleu', 'bleu'\], expected at least one, each once"),
        (TEXT + "metrics: [bert_score]\n", r"metrics has bert_score and bert_model names its encoder, or neither"),
        (TEXT + "tokenization: spaces\n", r"task mine: tokenization='spaces'"),
        (TEXT + "controls: [best_constant]\n", r"task mine: controls='best_constant'"),
        ("kind: retrieval\nrecall_at: [0]\n", r"task mine: recall_at=\[0\], expected ranks of 1 or more"),
        (
            ZERO_SHOT.replace("green: [green]", "Red: [red]"),
            r"classes=\['red', 'Red'\], expected two or more that differ",
        ),
        (ZERO_SHOT.replace(", green: [green]", ""), r"expected two or more"),
        (ZERO_SHOT.replace("[green]", "[]"), r"classes \['green'\] have no names"),
        (ZERO_SHOT.replace("['{}']", "[a photo]"), r"templates need \{\} for the class name; found \['a photo'\]"),
        (ZERO_SHOT.replace("['{}']", "[]"), r"found none"),
        (ZERO_SHOT.replace("label: hue\n", ""), r"task mine: label is empty"),
    ],
)
def test_what_a_kind_refuses(load, text, message):
    with pytest.raises(ConfigError, match=message):
        load(text)
