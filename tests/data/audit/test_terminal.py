"""What `medvlp check` shows."""

from rich.console import Console

from medvlp.data.audit.problems import ERRORS, WARNINGS, Problem, ProblemCounts, rank
from medvlp.data.audit.terminal import coloured, problem_table
from medvlp.shards.vocabulary import IMAGE_TOKEN
from tests.data.chat.test_encoder import dialogue, make_encoder


def test_what_matters_most_comes_first_and_no_path_is_cut():
    problems = ProblemCounts(lambda row: None)
    path = "/".join(["a_folder_with_a_long_name"] * 9) + "/000000.tar"
    for name in ("missing_licence", "shared_image", "duplicate_id", "empty_answer", "some_drop"):
        problems.add(Problem(name, "", "why", "made", path, "k0"))
    table = problem_table(problems)
    assert [str(cell) for cell in table.columns[1].cells] == [
        "empty_answer",
        "some_drop",
        "shared_image",
        "duplicate_id",
        "missing_licence",
    ]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    cells = [line.split("│") for line in captured.get().splitlines() if "│" in line]
    joined = "".join(cell[4].strip() for cell in cells)
    assert joined.count(path) == 5
    assert {rank(name) for name in ERRORS} == {0}
    assert sorted(rank(name) for name in WARNINGS) == list(range(1, len(WARNINGS) + 1))


def test_tokens_in_colour():
    encoder = make_encoder(image_tokens=576)
    text = coloured(encoder, encoder.encode(dialogue(f"{IMAGE_TOKEN}{IMAGE_TOKEN}\n[red]Is it\x1b[2J?", "Yes [b]é"), 2))
    assert text.plain == (
        "<|im_start|>user\n<image>×576<image>×576\n[red]Is it\\x1b[2J?<|im_end|>\n<|im_start|>assistant\nYes [b]é<|im_end|>"
    )
    styles = [(text.plain[span.start : span.end], span.style) for span in text.spans]
    assert styles == [
        ("<|im_start|>user\n", "dim"),
        ("<image>×576", "cyan"),
        ("<image>×576", "cyan"),
        ("\n[red]Is it\\x1b[2J?<|im_end|>\n<|im_start|>assistant\n", "dim"),
        ("Yes [b]é<|im_end|>", "bold green"),
    ]
