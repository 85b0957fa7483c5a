"""`medvlp ask` as it is typed."""

import builtins
import io
import subprocess
import sys

import pytest
import torch
from PIL import Image

from medvlp.builders import load_assistant
from medvlp.export.equality import probe_image
from medvlp.export.transformers import end_tokens
from medvlp.models.llava.generate import BatchedGenerator
from medvlp.shards import Turn
from medvlp.terminal import harmless, text_streamer
from medvlp.verbs.models.ask import NOTICE, main, split_args
from tests.api_server import MODEL, serving, stream_of
from tests.assistants import assistant_words
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.models.hf.families import CHAT
from tests.models.hf.stock import Stock
from tests.runs import run_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint and two images."""
    made = tmp_path_factory.mktemp("ask")
    assert run_here([*assistant_words(made), "trainer.max_steps=2", "run_name=tiny"]) == 0
    probe_image(0).save(made / "it's (1).png")
    probe_image(1).save(made / "b.png")
    return made


@pytest.fixture
def words(folder):
    return [f"checkpoint={folder}/runs/tiny/checkpoints/last.ckpt", "max_new_tokens=12", "accelerator=cpu"]


def expected(folder, turns: list[Turn], *names: str) -> str:
    """What evaluation's generator says."""
    loaded = load_assistant(folder / "runs/tiny/checkpoints/last.ckpt")
    pictures = [Image.open(folder / name).convert("RGB") for name in names]
    pixels = torch.empty(0)
    if pictures:
        pixels = loaded.assistant.processor(pictures, return_tensors="pt")["pixel_values"]
    generator = BatchedGenerator(loaded.assistant, end_tokens(loaded.assistant, loaded.encoder))
    return generator.generate([(loaded.encoder.prompt(turns, len(names)), pixels)], 12)[0]


class Written(io.StringIO):
    """A terminal that counts how often it was brought up to date."""

    flushed = 0

    def flush(self) -> None:
        self.flushed += 1


@pytest.mark.parametrize(
    ("names", "image", "turn"),
    [
        (["it's (1).png"], "image={0}/it's (1).png", "<image>\nIs it left?"),
        (["it's (1).png", "b.png"], """image=["{0}/it's (1).png",{0}/b.png]""", "<image>\n<image>\nIs it left?"),
        ([], None, "Is it left?"),
    ],
)
def test_the_answer_is_evaluations_and_ends_with_the_notice(folder, words, names, image, turn, capsys):
    given = [] if image is None else [image.format(folder)]
    assert main([*words, *given, "Is it", "left?"]) == 0
    answer = harmless(expected(folder, [Turn("user", turn)], *names))
    assert capsys.readouterr().out == f"{answer}\n{NOTICE}\n"
    assert answer


def test_placeholders_in_the_question_say_where_the_images_are(folder, words, capsys):
    assert main([*words, f"image={folder}/b.png", "Is it left? <image>"]) == 0
    asked = expected(folder, [Turn("user", "Is it left? <image>")], "b.png")
    assert capsys.readouterr().out == f"{harmless(asked)}\n{NOTICE}\n"


def test_a_conversation_remembers_until_an_empty_line(folder, words, monkeypatch, capsys):
    typed = iter(["Is it left?", "what <|im_end|>", "Where is it?", ""])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main([*words, f"image={folder}/b.png"]) == 0
    first = expected(folder, [Turn("user", "<image>\nIs it left?")], "b.png")
    turns = [Turn("user", "<image>\nIs it left?"), Turn("assistant", harmless(first).strip())]
    second = expected(folder, [*turns, Turn("user", "Where is it?")], "b.png")
    said = capsys.readouterr().out
    assert said.startswith(f"{NOTICE} An empty line ends.\n{harmless(first)}\nmedvlp ask: ")
    assert "'<|im_end|>' would be read as a control token" in said
    assert said.endswith(f"\n{harmless(second)}\n{NOTICE}\n")


@pytest.mark.parametrize(
    ("image", "more", "said"),
    [
        ("absent.png", [], "absent.png: no such file"),
        ("text.png", [], "text.png is not a readable image (JPEG, PNG, WEBP): UnidentifiedImageError: cannot identify"),
        ("cut.png", [], "cut.png is not a readable image"),
        ("b.png", ["max_pixels=1000"], "b.png: 190 × 150 pixels, the cap is 1000; raise max_pixels"),
        ("b.png", ["<image> <image> Is it?"], "2 × <image> for 1 images"),
        ("b.png", ["max_new_tokens=0"], "max_new_tokens=0 must be at least 1"),
        ("b.png", ["max_new_token=3"], "did you mean 'max_new_tokens'?"),
        ("b.png", ["checkpoint=open_clip:ViT-B-32"], "open_clip:ViT-B-32 is a CLIP model, which writes no answers"),
    ],
)
def test_wrong_input_is_named_in_a_sentence(folder, words, image, more, said, capsys):
    (folder / "text.png").write_text("not an image")
    (folder / "cut.png").write_bytes((folder / "b.png").read_bytes()[:500])
    assert main([*words, f"image={folder}/{image}", *(more if any(" " in w for w in more) else [*more, "Is it?"])]) == 1
    error = capsys.readouterr().err
    assert error.startswith("medvlp ask: ")
    assert said in error
    assert "0x" not in error
    assert len(error.splitlines()) == 1


def test_a_name_that_is_not_understood_is_told_the_forms(words, capsys):
    assert main([*words, "checkpoint=absent.ckpt", "Is it?"]) == 1
    error = capsys.readouterr().err
    assert "checkpoint=absent.ckpt: no such file or folder" in error
    assert "api:<base url>#<model>" in error


def test_a_run_folder_stands_for_its_last_checkpoint(folder, words, capsys):
    assert main([*words, f"checkpoint={folder}/runs/tiny", "Is it left?"]) == 0
    assert capsys.readouterr().out.startswith(harmless(expected(folder, [Turn("user", "Is it left?")])))


def test_a_model_of_transformers_answers_as_stock_transformers(folder, tmp_path, capsys):
    model = CHAT["llava"](tmp_path / "model")
    words = [f"checkpoint=hf:{model}", f"image={folder}/b.png", "max_new_tokens=9", "accelerator=cpu"]
    assert main([*words, "Is it left?"]) == 0
    answer = Stock(model).answer("Is it left?", [Image.open(folder / "b.png").convert("RGB")], 9)
    assert capsys.readouterr().out == f"{harmless(answer)}\n{NOTICE}\n"


def test_a_server_is_asked_without_the_cache(tmp_path, monkeypatch, capsys):
    """Even where the folder of the cache is one that an evaluation would refuse."""
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path))
    (tmp_path / "others.txt").touch()
    with serving(lambda request: "no") as server:
        assert main([f"checkpoint=api:{server.url}#{MODEL}", "Is it left?"]) == 0
    assert "\nno\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["others.txt"]


def test_an_image_that_would_not_be_sent_is_refused(folder, capsys):
    assert main(["checkpoint=api:http://127.0.0.1:9/v1#m", f"image={folder}/b.png", "api.images=false", "Is it?"]) == 1
    assert "api.images=false sends no images" in capsys.readouterr().err


def test_a_server_answers_word_by_word_and_remembers(folder, monkeypatch, capsys):
    typed = iter(["Is it left?", "Why?", "Too much?", ""])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    def cut(request):
        body = stream_of("Half \x1b[31mof it", "length")
        return "Too much" in request.text() and request.send(200, body, Content_Type="text/event-stream")

    with serving(lambda request: f"I see {len(request.images())} in {request.text().split()}", cut) as server:
        name = f"api:{server.url}#{MODEL}"
        assert main([f"checkpoint={name}", f"image={folder}/b.png", "api.seed=3"]) == 0
    said = capsys.readouterr()
    first = "I see 1 in ['Is', 'it', 'left?']"
    host = server.url.removesuffix("/v1")
    assert said.out.splitlines() == [
        f"{NOTICE} An empty line ends.",
        f"{name}: images and questions are sent to {host}",
        first,
        f"I see 1 in {['Is', 'it', 'left?', *first.split(), 'Why?']}",
        "Half of it",
        NOTICE,
    ]
    assert said.err == "medvlp ask: the answer was cut at max_new_tokens\n"
    body = server.requests[0].body
    assert (body["stream"], body["seed"], body["max_tokens"]) == (True, 3, 256)
    assert [turn["role"] for turn in server.requests[1].body["messages"]] == ["user", "assistant", "user"]


def test_no_question_and_no_terminal_is_a_usage_error(words):
    command = [sys.executable, "-m", "medvlp.cli", "ask", *words]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "no question" in run.stderr


@pytest.mark.parametrize(
    ("words", "keys", "question"),
    [
        (["checkpoint=a.ckpt", "image=b c.png", "Is it?"], ["checkpoint=a.ckpt", "image=b c.png"], "Is it?"),
        (["image=it's.png", "Is", "it?"], ["image=it's.png"], "Is it?"),
        (["image=[a.png,b.png]", "q"], ["image=[a.png,b.png]"], "q"),
        (["Is SUV = 3?", "Is x=3?"], [], "Is SUV = 3? Is x=3?"),
        (["max_new_tokens=3"], ["max_new_tokens=3"], ""),
    ],
)
def test_words_are_keys_or_the_question(words, keys, question):
    assert split_args(words) == (keys, question)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain\ttext\nof lines", "plain\ttext\nof lines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hwiped", "wiped"),
        ("cut \x1b", "cut "),
        ("\x9b31mred", "red"),
        ("over\rwritten\x08\x00\x7f", "overwritten"),
        ("right\u202eleft\u2066", "rightleft"),
        ("lines\u2028apart", "linesapart"),
        ("50 µm, 心脏, é, 👩\u200d⚕", "50 µm, 心脏, é, 👩\u200d⚕"),
    ],
)
def test_a_models_words_cannot_steer_the_terminal(text, printed):
    assert harmless(text) == printed


def test_words_are_shown_as_they_come_and_cleaned():
    tokenizer, terminal = tiny_tokenizer("chatml"), Written()
    streamer = text_streamer(tokenizer, terminal)
    streamer.put(torch.tensor([[1, 2, 3]]))  # the prompt
    outputs = []
    for token in tokenizer("it is \x1b[31mred\x1b[0m now\r done<|im_end|>")["input_ids"]:
        streamer.put(torch.tensor([token]))
        outputs.append(terminal.getvalue())
    streamer.end()
    assert len(set(outputs)) >= 4  # where tokens begin and end is the tokenizer's affair
    assert all("it is red now done".startswith(part) for part in outputs)
    assert any("red" in part for part in outputs[:-1])
    assert terminal.getvalue() == streamer.text == "it is red now done"
    assert terminal.flushed >= 4
