import json
import re
import shutil

import pytest
from rich.console import Console

from data_prep.pipeline import prepare
from medvlp.cli import main as medvlp
from medvlp.config import compose
from medvlp.data.audit.terminal import print_samples
from medvlp.data.audit.token_costs import MeasuredSource
from medvlp.data.chat.lengths import measure_lengths
from medvlp.shards import Conversation, Sample, Turn, schema
from medvlp.verbs.shards.check import main
from tests.assistants import assistant_words, tiny_clip_checkpoint, vqa_samples
from tests.data_prep.folders import jpeg as other_jpeg
from tests.datasets import jpeg, pairs, write_split
from tests.runs import rows, run_here

ENTRY = {
    "id": "q1",
    "image": "a.jpg",
    "answer_type": "OPEN",
    "conversations": [{"from": "human", "value": "<image>\nWhat is seen?"}, {"from": "gpt", "value": "A lesion."}],
}


def entry(**changes: object) -> dict:
    return {**json.loads(json.dumps(ENTRY)), "id": "q2", **changes}


def turns(question: object = "<image>\nWhere?", answer: object = "On the left.", **first: object) -> list[dict]:
    return [{"from": "human", "value": question, **first}, {"from": "gpt", "value": answer}]


def misspelt() -> dict:
    made = entry()
    made["conversatons"] = made.pop("conversations")
    return made


ENTRIES = {
    "a missing role": (
        entry(conversations=[{"value": "<image>\nWhere?"}, {"from": "gpt", "value": "Here."}]),
        "missing_role",
        "conversations[0].from is missing",
    ),
    "an unknown role": (
        entry(conversations=turns(**{"from": "person"})),
        "unknown_role",
        "conversations[0].from is 'person', expected one of system, developer, human, user, gpt, assistant, model, chatgpt",
    ),
    "two placeholders for one image": (
        entry(conversations=turns("<image>\n<image>\nWhere?")),
        "placeholder_count",
        "2 <image> in the conversation, but image names 1",
    ),
    "an absent image": (entry(image="b.jpg"), "missing_image", "b.jpg is not in the image folder set/"),
    "a list for an answer": (
        entry(conversations=turns(answer=["Here."])),
        "bad_value",
        "conversations[1].value is a list, expected a text",
    ),
    "a path that leaves the folder": (
        entry(image="../a.jpg"),
        "bad_path",
        "'../a.jpg' is not a relative path that stays in the image folder",
    ),
    "no conversations": (
        {"id": "q2", "image": "a.jpg"},
        "missing_conversations",
        "conversations is missing",
    ),
}
"""Name → (entry of a LLaVA file, problem, detail)."""


def llava_file(folder, entries, name="train.json"):
    file = folder / "set" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / "a.jpg").write_bytes(other_jpeg(1))
    data = (
        json.dumps(entries, indent=1) if file.suffix == ".json" else "\n".join(json.dumps(entry) for entry in entries)
    )
    file.write_text(data)
    return file


def findings(folder, *words: str) -> tuple[int, list[dict]]:
    """Exit code, and the rows of findings.jsonl without what is known: the licence of a LLaVA file."""
    code = main([*words, f"output={folder}/found"])
    return code, [row for row in rows(folder / "found/findings.jsonl") if row["problem"] != "missing_licence"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_an_entry_that_the_reader_drops_is_an_error(tmp_path, name, suffix, capsys):
    bad, problem, detail = ENTRIES[name]
    file = llava_file(tmp_path, [ENTRY, bad], f"train{suffix}")
    code, problems = findings(tmp_path, "source=llava_json", f"input={file}")
    unit = "entry" if suffix == ".json" else "line"
    expected = {
        "severity": "error",
        "problem": problem,
        "source": "llava_json",
        "file": str(file),
        "key": f"train{suffix} {unit} 2 (id q2)",
        "conversation": "",
        "detail": detail,
    }
    assert (code, problems) == (1, [expected])
    assert re.search(rf"│ error +│ {problem} +│ 1 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (misspelt(), "mended_conversatons"),
        (entry(conversations=turns(answer=4)), "mended_numbers"),
        (entry(conversations=turns("Where?")), "mended_placeholders"),
    ],
)
def test_what_the_reader_mends_is_a_warning(tmp_path, bad, problem, capsys):
    file = llava_file(tmp_path, [ENTRY, bad])
    code, problems = findings(tmp_path, "source=llava_json", f"input={file}")
    (row,) = problems
    assert (code, row["severity"], row["problem"], row["conversation"]) == (0, "warning", problem, "q2")
    assert row["key"].startswith("llava_json__train__a-jpg__train")
    assert "0 errors, 2 warnings" in capsys.readouterr().out


def test_samples_without_an_image_and_fields_that_nobody_reads_are_counted(tmp_path):
    """Pictures under a key that does not look like one become text, which has to be said before training."""
    silent = entry(id="q2", conversations=turns("Where?"), picture_of="study 7")
    del silent["image"]
    file = llava_file(tmp_path, [ENTRY, silent, {**silent, "id": "q3"}])
    code, problems = findings(tmp_path, "source=llava_json", f"input={file}")
    assert (code, [(row["severity"], row["problem"], row["detail"]) for row in problems]) == (
        0,
        [
            ("warning", "no_image", "conversations about no image"),
            ("warning", "no_image", "conversations about no image"),
            ("warning", "ignored_fields", "picture_of in 2 rows"),
        ],
    )


def not_utf8(data: bytes) -> bytes:
    return data.replace(b"A lesion.", b"A l\xe9sion.")


@pytest.mark.parametrize(
    ("name", "spoil", "problem", "key", "detail"),
    [
        ("train.json", not_utf8, "unreadable_input", "", "is not UTF-8: byte 0xe9 at offset {accent}"),
        ("train.json", lambda data: data[:-3], "unreadable_input", "", "line 16 column {column} is not JSON"),
        ("train.jsonl", not_utf8, "not_utf8", "train.jsonl line 1", "byte 0xe9 at offset {accent} of the line"),
        ("train.jsonl", lambda data: data[:-1], "bad_json", "train.jsonl line 1", "column {column}: Expecting ','"),
    ],
)
def test_a_file_that_is_not_json_in_utf8(tmp_path, name, spoil, problem, key, detail):
    file = llava_file(tmp_path, [ENTRY], name)
    data = spoil(file.read_bytes())
    file.write_bytes(data)
    code, (row,) = findings(tmp_path, "source=llava_json", f"input={file}")
    assert (code, row["problem"], row["key"], row["file"]) == (1, problem, key, str(file))
    assert detail.format(accent=data.find(b"\xe9"), column=len(data.split(b"\n")[-1]) + 1) in row["detail"]


def test_what_the_stages_would_drop_and_what_samples_show(tmp_path):
    file = llava_file(tmp_path, [ENTRY, entry(image="b.jpg"), entry(conversations=turns(answer="yes"))])
    (file.parent / "b.jpg").write_bytes(other_jpeg(2)[:300])
    code, problems = findings(tmp_path, "source=llava_json", f"input={file}")
    assert code == 1
    assert [(row["problem"], row["key"][:31], row["conversation"]) for row in problems] == [
        ("yes_no_under_open", "llava_json__train__a-jpg__train", "q2"),
        ("broken_image", "llava_json__train__b-jpg__train", ""),
    ]


def test_an_input_that_is_no_source(tmp_path, capsys):
    assert main(["source=llava_json", f"input={tmp_path}"]) == 1
    assert "holds no .json or .jsonl file" in capsys.readouterr().err
    assert main(["source=lava_json", f"input={tmp_path}"]) == 1
    assert "did you mean 'llava_json'?" in capsys.readouterr().err


def spoilt(key: str, spoil):
    """What writes members of a sample as `to_members` does, but for one sample."""

    def members(sample: Sample) -> dict[str, bytes]:
        made = schema.to_members(sample)
        return spoil(made) if sample.key == key else made

    return members


def in_json(change):
    def spoil(members: dict[str, bytes]) -> dict[str, bytes]:
        content = json.loads(members["json"])
        change(content)
        return {**members, "json": json.dumps(content).encode()}

    return spoil


def first_turns(content: dict) -> list[dict]:
    return content["conversations"][0]["turns"]


MEMBERS = {
    "a missing role": (
        in_json(lambda content: first_turns(content)[0].pop("role")),
        "broken_json",
        "conversations[0].turns[0].role is None, expected one of system, user, assistant",
    ),
    "conversatons": (
        in_json(lambda content: content.update(conversatons=content.pop("conversations"))),
        "broken_json",
        "unknown field 'conversatons'",
    ),
    "an integer for an answer": (
        in_json(lambda content: first_turns(content)[1].update(text=4)),
        "broken_json",
        "conversations[0].turns[1].text is a int, expected a string",
    ),
    "two placeholders for one image": (
        in_json(lambda content: first_turns(content)[0].update(text="<image><image>What?")),
        "placeholder_count",
        "2 × <image> for 1 images",
    ),
    "an absent image": (
        lambda members: {name: data for name, data in members.items() if name != "jpg"},
        "missing_member",
        "made__i0003__0__0.jpg is named in made__i0003__0__0.json but is not there",
    ),
    "not UTF-8": (
        lambda members: {**members, "json": members["json"].replace(b"mediastinum", b"medi\xe4stinum")},
        "broken_json",
        "'utf-8' codec can't decode byte 0xe4",
    ),
    "broken JSON": (
        lambda members: {**members, "json": members["json"][:-2]},
        "broken_json",
        "Expecting ',' delimiter",
    ),
    "an empty answer": (
        in_json(lambda content: first_turns(content)[1].update(text=" ")),
        ("empty_answer", "nothing_supervised"),
        "turn 1",
    ),
    "no conversation": (
        in_json(lambda content: content.pop("conversations")),
        "no_conversation",
        "conversation",
    ),
    "a control token in the text": (
        in_json(lambda content: first_turns(content)[1].update(text="yes<|im_end|>")),
        "special_token_in_text",
        "turn 1: '<|im_end|>' would be read as a control token",
    ),
}
"""Name → (members of a sample → members, problem (that training calls otherwise), detail)."""
BAD = "made__i0003__0__0"


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder with a tiny tower and a tiny language model."""
    folder = tmp_path_factory.mktemp("parts")
    assistant_words(folder)
    return folder


def words_of(parts, folder) -> list[str]:
    """A tiny run with the parts on <folder>/made/train."""
    given = {"data.sources.made.path": f"{folder}/made/train", "run_root": f"{folder}/runs"}
    words = [word for word in assistant_words(parts) if word.split("=")[0] not in given]
    return words + [f"{key}={value}" for key, value in given.items()]


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_malformed_shards_are_named_and_training_refuses_to_start(tmp_path, parts, name, monkeypatch, capsys):
    spoil, problem, detail = MEMBERS[name]
    problem, reason = problem if isinstance(problem, tuple) else (problem, problem)
    monkeypatch.setattr("medvlp.shards.writer.to_members", spoilt(BAD, spoil))
    folder = write_split(tmp_path / "made/train", vqa_samples(12), per_shard=4)
    words = words_of(parts, tmp_path)

    code, problems = findings(tmp_path, *words)
    wrong = [row for row in problems if row["severity"] == "error"]
    assert (code, len(wrong)) == (1, 1)
    assert (wrong[0]["problem"], wrong[0]["key"], wrong[0]["source"]) == (problem, BAD, "made")
    assert wrong[0]["file"] == str(folder / "000000.tar")
    assert detail in wrong[0]["detail"]

    capsys.readouterr()
    assert run_here(words) == 1
    said = capsys.readouterr().err
    assert "1 conversations cannot be trained on" in said
    assert f"{BAD}, conversation" in said
    assert f": {reason} (" in said
    assert detail.split(" (")[0] in said
    assert not (tmp_path / "runs").exists()


def test_clean_shards_with_a_model(tmp_path, parts, capsys):
    write_split(tmp_path / "made/train", vqa_samples(12), per_shard=4)
    code, problems = findings(tmp_path, *words_of(parts, tmp_path), "examples=1")
    said = capsys.readouterr().out
    assert (code, problems) == (0, [])
    assert "0 errors, 0 warnings" in said
    assert re.search(r"│ made +│ 24 +│ 2\.0 +│ \d+, \d+ +│ \d+, \d+ +│ \d+\.\d% │", said)
    assert "An image is 4 tokens." in said
    assert re.search(
        r"none [\d,]+, sequence [\d,]+ \([\d.]+× fewer\), tree [\d,]+ \([\d.]+× fewer\); chosen is tree", said
    )
    assert "made__i0000__0__0#0" in said
    assert "made__i0001" not in said
    assert "<image>×4\nIs the left lung enlarged?" in said


def test_what_is_too_long_is_a_warning(tmp_path, parts):
    samples = vqa_samples(4)
    samples[2].conversations[1].turns[1].text = "lesion " * 300
    write_split(tmp_path / "made/train", samples)
    code, (row,) = findings(tmp_path, *words_of(parts, tmp_path))
    assert code == 0
    assert (row["severity"], row["problem"], row["key"]) == ("warning", "too_long", "made__i0002__0__0")
    assert row["conversation"] == "2-1"
    assert "objective.max_length=256; 1 answers are left out" in row["detail"]


def test_nothing_left_is_an_error(tmp_path, parts):
    write_split(tmp_path / "made/train", vqa_samples(2))
    code, problems = findings(tmp_path, *words_of(parts, tmp_path), "objective.max_length=8")
    assert code == 1
    assert [row["problem"] for row in problems if row["severity"] == "error"] == ["nothing_left"]


def test_captions_as_answers(tmp_path, parts):
    write_split(tmp_path / "made/train", pairs(6))
    words = words_of(parts, tmp_path)
    code, problems = findings(tmp_path, *words)
    assert (code, [row["problem"] for row in problems]) == (1, ["no_conversation"] * 6 + ["nothing_left"])
    assert findings(tmp_path, *words, "data.sources.made.caption_prompts=[What is shown?]") == (0, [])


def test_other_words_need_their_fields(tmp_path, parts):
    samples = vqa_samples(4)
    del samples[2].conversations[0].metadata["question_type"]
    folder = write_split(tmp_path / "made/train", samples)
    code, problems = findings(
        tmp_path, *words_of(parts, tmp_path), "data.sources.made.answer_template='{question_type}: {answer}'"
    )
    (row,) = problems
    assert (code, row["problem"], row["key"]) == (1, "missing_field", "made__i0002__0__0")
    assert row["file"] == str(folder / "000000.tar")
    assert row["detail"] == "conversation 2-0: no 'question_type' in its metadata"


def test_each_stage_of_a_recipe_is_looked_at(tmp_path, parts, monkeypatch, capsys):
    captions, questions = pairs(4), vqa_samples(4)
    questions[1].conversations[0].turns[1].text = ""
    write_split(tmp_path / "captions/train", captions)
    write_split(tmp_path / "made/train", questions)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "configs/data").mkdir(parents=True)
    source = {"path": f"{tmp_path}/captions/train", "caption_prompts": ["What is shown?"]}
    (tmp_path / "configs/data/captions.yaml").write_text(json.dumps({"sources": {"captions": source}}))
    made = {"path": f"{tmp_path}/made/train"}
    (tmp_path / "configs/data/made.yaml").write_text(json.dumps({"sources": {"made": made}}))
    stages = {"align": ["data=captions"], "vqa": ["trainer.max_epochs=3"]}
    recipe = {"verb": "train", "defaults": [{"override /data": "made"}], "stages": stages, "run_name": "staged"}
    (tmp_path / "recipes/staged.yaml").write_text("# @package _global_\n" + json.dumps(recipe))
    monkeypatch.chdir(tmp_path)
    words = [word for word in words_of(parts, tmp_path) if not word.startswith("data.sources")]
    code, problems = findings(tmp_path, "recipes=staged", *words, "examples=1")
    assert code == 1
    assert [(row["source"], row["problem"], row["key"]) for row in problems] == [
        ("made", "empty_answer", "made__i0001__0__0")
    ]
    before, align, vqa = re.split(r"─+ stage (?:align|vqa) ─+", capsys.readouterr().out)
    assert before.strip() == ""
    assert "0 errors, 0 warnings" in align
    assert "made__a0000__f1__0" in align
    assert "1 error, 0 warnings" in vqa


@pytest.mark.parametrize(
    ("family", "change", "image_tokens"),
    [("llama", "", 4), ("qwen2", "", 4), ("llama", "model.reduce.kind=average_pool", 1), ("qwen2", "clip", 16)],
)
def test_the_encoder_without_weights_is_the_assistants(tmp_path, parts, family, change, image_tokens):
    from medvlp.builders.audit import encoder_without_weights
    from medvlp.builders.llava import build_assistant, chat_encoder, encoder_identity

    words = [*assistant_words(parts, family), *([change] if "=" in change else [])]
    if change == "clip":
        words.append(f"model.vision.source={tiny_clip_checkpoint(tmp_path)}")
    model = compose("train", words).model
    expected = chat_encoder(build_assistant(model), model.language)
    encoder = encoder_without_weights(model)
    assert encoder.image_tokens == expected.image_tokens == image_tokens
    assert encoder_identity(encoder) == encoder_identity(expected)


def test_images_that_other_splits_and_tasks_hold(tmp_path, monkeypatch):
    samples = vqa_samples(6)
    write_split(tmp_path / "made/train", samples)
    write_split(tmp_path / "made/test", samples[1:3])
    write_split(tmp_path / "far/test", [samples[4]])
    write_split(tmp_path / "far/train", [samples[5]])
    (tmp_path / "configs/task").mkdir(parents=True)
    task = {"name": "far_task", "kind": "retrieval", "data": f"{tmp_path}/far"}
    (tmp_path / "configs/task/far_task.yaml").write_text(json.dumps(task))
    monkeypatch.chdir(tmp_path)
    source = f"data.sources.made.path={tmp_path}/made/train"
    code, problems = findings(tmp_path, source, "tasks=[far_task]")
    assert code == 0
    assert [(row["problem"], row["key"], row["detail"]) for row in problems] == [
        ("shared_image", "made__i0004__0__0", "of far/test; the same bytes are trained on"),
        ("shared_image", "made__i0001__0__0", "of made/test; the same bytes are trained on"),
        ("shared_image", "made__i0002__0__0", "of made/test; the same bytes are trained on"),
    ]
    # A split that is trained on too is not held out.
    both = findings(tmp_path, source, f"data.sources.more.path={tmp_path}/made/test")
    assert [row for row in both[1] if row["problem"] == "shared_image"] == []


def test_a_clip_recipe_looks_at_captions(tmp_path, capsys):
    samples = pairs(6)
    samples[2].texts = {}
    samples[3].images = {"jpg": b"\xff\xd8\xff nothing"}
    samples[5].images = samples[4].images
    write_split(tmp_path / "made/train", samples)
    words = ["model=lite_minilm", f"data.sources.made.path={tmp_path}/made/train"]
    code, problems = findings(tmp_path, *words)
    assert code == 1
    assert [(row["severity"], row["problem"], row["key"]) for row in problems] == [
        ("error", "empty_caption", "made__a0002__f1__0"),
        ("error", "undecodable_image", "made__a0003__f1__0"),
        ("warning", "repeated_image", "made__a0005__f1__0"),
    ]
    assert "No model was given" not in capsys.readouterr().out


def test_what_cannot_be_looked_at_without_a_model_is_said(tmp_path, capsys):
    write_split(tmp_path / "made/train", vqa_samples(2))
    assert main([f"data.sources.made.path={tmp_path}/made/train"]) == 0
    assert "No model was given, so tokens were not looked at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "data.sources is empty"),
        (["data.sources.made.path=/nowhere/train"], "does not exist"),
        (["data=vqa_rad", "model=llava"], "add objective=instruct"),
        (["recipes=eval_rocov2"], "is for `medvlp eval`"),
        (["source=vqa_rad", "data=vqa_rad"], "leave out data, model and recipes"),
        (["input=here"], "belong to source=<name>"),
        (["data=vqa_rad", "exmaples=1"], "did you mean 'examples'?"),
        (["data=vqa_rad", "examples=-1"], "must not be negative"),
    ],
)
def test_a_wrong_command_says_what_to_change(words, said, capsys):
    assert medvlp(["check", *(words or ["seed=1"])]) == 1
    assert said in capsys.readouterr().err


def test_data_cannot_steer_the_terminal(tmp_path, parts, capsys):
    evil = "\x1b[2J\x1b]0;owned\x07[red]bold[/red] \u202e"
    conversations = [
        Conversation([Turn("user", f"<image>\n{evil}"), Turn("assistant", f"[link=x]yes[/link]{evil}")], evil)
    ]
    metadata = {"licence": f"{evil}"}
    samples = [Sample("made__1__0__0", {"jpg": jpeg(1)}, {}, {}, conversations, metadata)]
    samples += [Sample("made__2__0__0", {"jpg": jpeg(2)}, {}, {}, [Conversation([Turn("user", "?")], evil)], metadata)]
    write_split(tmp_path / "made/train", samples)
    assert main([*words_of(parts, tmp_path), "examples=2"]) == 1
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "\u202e" not in said
    escaped = r"\x1b[2J\x1b]0;owned\x07[red]bold[/red] \u202e"
    assert escaped in said.replace("\n", "")
    assert f"<image>×4\n{escaped}" in said
    assert "[link=x]yes[/link]" in said


def test_supervised_tokens_are_green_on_a_terminal(tmp_path, parts):
    from medvlp.boxes.forms import BoxStyle
    from medvlp.builders.audit import conversation_sources, encoder_without_weights

    write_split(tmp_path / "made/train", vqa_samples(1))
    config = compose("check", words_of(parts, tmp_path))
    encoder = encoder_without_weights(config.model)
    ((name, weight, dataset),) = conversation_sources(config, BoxStyle())
    source = MeasuredSource(name, weight, dataset, measure_lengths(dataset, encoder, 500, "split"))
    console = Console(record=True, width=120, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        print_samples(console, source, encoder, 500, samples=1)
    green = re.findall(r"\x1b\[1;32m([^\x1b]*)\x1b", captured.get())
    assert green == ["green", "no<|im_end|>", "0<|im_end|>"]


def test_vqa_rad_is_clean_but_for_the_images_that_its_splits_share(test_data, tmp_path, capsys):
    """Forty images of the test split, with all that either split asks of them."""
    published = {
        name: json.loads((test_data / f"vqa_rad/{name}.json").read_text("utf-8")) for name in ("trainset", "testset")
    }
    images = sorted({question["image_name"] for question in published["testset"]})[:40]
    (tmp_path / "some/images").mkdir(parents=True)
    for image in images:
        shutil.copy(test_data / "vqa_rad/images" / image, tmp_path / "some/images")
    for name, questions in published.items():
        chosen = [question for question in questions if question["image_name"] in images]
        (tmp_path / f"some/{name}.json").write_text(json.dumps(chosen))
    code, problems = findings(tmp_path, "source=vqa_rad", f"input={tmp_path}/some")
    assert (code, len(problems), {row["problem"] for row in problems}) == (0, 40, {"shared_image"})
    capsys.readouterr()
    prepare("vqa_rad", str(tmp_path / "some"), tmp_path / "vqa_rad")
    code, problems = findings(tmp_path, f"data.sources.vqa_rad.path={tmp_path}/vqa_rad/train")
    assert (code, len(problems), {row["problem"] for row in problems}) == (0, 40, {"shared_image"})
    assert problems[0]["key"].endswith("__test__0")
    assert problems[0]["detail"] == "of vqa_rad/test; the same bytes are trained on"
    said = capsys.readouterr().out
    assert re.search(r"│ warning +│ shared_image +│ 40 ", said)
    assert (
        "40 of 40 samples of vqa_rad/test have an image that is in train: 40 the same bytes, 0 the same picture" in said
    )
