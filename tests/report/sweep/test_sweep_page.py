"""The page of a sweep of 20 models and 15 tasks, and what must hold whatever its files say."""

import csv
import json
import re

import pytest
from markdown_it import MarkdownIt

from medvlp.eval.bootstrap import MetricValue
from medvlp.eval.statistics.reliance import reliance_columns, reliance_sentences
from medvlp.jsonl import read_rows
from medvlp.report import results_table, write_run_report
from medvlp.report.files import NotARun
from medvlp.report.latex import latex
from medvlp.report.sweep.evaluation import Evaluation, read_evaluation
from medvlp.report.sweep.exports import IN_TRAIN
from medvlp.report.sweep.leaderboard import leaderboards
from medvlp.report.sweep.marks import (
    BEST,
    FULLY,
    LEGEND,
    PARTLY,
    RELATED,
    TIED,
    UNCOMPARED,
    UNKNOWN,
    WORSE,
    Comparisons,
    standings,
    trained_mark,
    wins_ties_losses,
)
from medvlp.report.sweep.page import PICTURES
from medvlp.report.sweep.reliability.images import blind_models, reliances
from medvlp.report.sweep.scores import LONGEST_NAME, Scores, checkpoint_names
from tests.report.dataset.small_folders import HOSTILE, jsonl
from tests.report.html_page import assert_safe
from tests.report.sweep.sweep_folder import MODELS, write_sweep

FILES = ("report.html", "leaderboard.md", "leaderboard.tex", "results.csv")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The folder of a whole sweep, with its page."""
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep(folder / "eval", folder / "images")
    write_run_report(folder / "eval")
    return folder / "eval"


@pytest.fixture(scope="module")
def page(sweep):
    return assert_safe(sweep / "report.html")


def row(model, value, task="t", metric="acc1", low=None, high=None, n=9, **protocol):
    protocol = {"kind": "zero_shot", "split": "test"} | protocol
    return {"checkpoint": model, "task": task, "metric": metric, "value": value, "ci_low": low, "ci_high": high,
            "n": n, "protocol": protocol}  # fmt: skip


def pair(a, b, difference, p, metric="acc1", differing=()):
    return {"task": "t", "split": "test", "metric": metric, "a": a, "b": b, "difference": difference, "ci_low": None,
            "ci_high": None, "p": p, "p_holm": p, "n": 9, "differing": list(differing)}  # fmt: skip


def scores_of(rows, comparisons=(), failures=()):
    return Scores(Evaluation(list(rows), list(comparisons), failures=list(failures)))


def test_the_page_has_every_part(page):
    for expected in (
        "Zero-shot classification", "Retrieval", "Questions", "Models × tasks", "6 of the evaluations failed",
        "CUDA out of memory: 22.31 GiB asked, <b>3.1 GiB</b> free", "Over training steps", "clip_pmc_large_batch",
        "Not compared", "decoding: greedy, at most 16 tokens against greedy, at most 17 tokens",
        "On all 7 tasks (vqa_rad, slake, pathvqa, kvasir_vqa, quilt_vqa, pmc_vqa, omnimedvqa) there is no sign that the image",
        "better with the right images than with others. SmolLM2-135M-Instruct.",
        "rocov2_modality by modality: accuracy", "(not stated)", "equity-scaled", "Reliability", "AURC",
        "qwen2.5-vl-72b-instruct on pmc_vqa, omnimedvqa: no choice by letter (an API gives no likelihoods)",
        "SmolLM2-135M-Instruct on vqa_rad, slake, pathvqa, kvasir_vqa, quilt_vqa, pmc_vqa, omnimedvqa: images withheld",
        "ViT-B-32@laion2b_s34b_b79k on rocov2_modality, breastmnist, ", "what all 13 models share",
        "of 147 pairs of a model and a task", "Most confident mistakes",
    ):  # fmt: skip
        assert expected in page.text or any(expected in (value or "") for _, _, value in page.attributes), expected
    assert page.tags.count("svg") > 40
    assert 20 < page.tags.count("img") <= PICTURES + 16


def test_the_matrix_of_models_is_on_the_page(sweep):
    counts = wins_ties_losses(list(read_rows(sweep / "comparisons.jsonl")))
    part = (sweep / "report.html").read_text().split("Model against model</h3>")[1].split("</table>")[0]
    matrix = [
        re.findall(r'<td class="number">(.*?)</td>', line) for line in part.split("<tbody>")[1].split("</tr>")[:-1]
    ]
    models = [model for model in Scores(read_evaluation(sweep)).models if model in counts]
    assert len(models) > 15
    assert matrix == [
        [" / ".join(map(str, counts[row][column])) if column in counts[row] else "–" for column in models]
        for row in models
    ]


def test_every_number_opens_a_card_that_is_there(page):
    targets = [value for _, name, value in page.attributes if name == "popovertarget"]
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(targets) > 500
    assert set(targets) <= set(ids)
    assert len(ids) == len(set(ids))
    links = [value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert links
    assert set(links) <= set(ids)


def test_the_page_is_no_megabytes_and_the_same_bytes_again(sweep):
    assert (sweep / "report.html").stat().st_size < 1_500_000
    first = [(sweep / name).read_bytes() for name in FILES]
    write_run_report(sweep)
    assert [(sweep / name).read_bytes() for name in FILES] == first


def test_the_csv_has_all_rows_exactly(sweep):
    rows = list(csv.DictReader((sweep / "results.csv").open(encoding="utf-8", newline="")))
    results = read_evaluation(sweep).results
    assert len(rows) == len(results)
    numbers = {
        (r["checkpoint"], r["task"], r["metric"]): (r["value"], r["ci_low"], r["ci_high"], r["n"]) for r in results
    }
    for line in rows:
        exact = numbers[line["checkpoint"], line["task"], line["metric"]]
        assert tuple(float(line[name]) for name in ("value", "ci_low", "ci_high", "n")) == exact
    marks = {(line["checkpoint"], line["task"]): line["in_train"] for line in rows}
    assert marks["runs/llava_vqarad_smol/checkpoints/last.ckpt", "kvasir_vqa"] == "all"
    assert marks["runs/clip_rocov2/checkpoints/step-000100.ckpt", "rocov2_retrieval"] == "some"
    assert marks["hf:openai/clip-vit-base-patch32", "breastmnist"] == "unknown"
    assert {line["use"] for line in rows} == {"Research use only; not for clinical use."}


def parsed(markdown):
    """The cells of every table as a reader of Markdown has them, and the kinds of all its elements."""
    tables, kinds = [], set()
    tokens = MarkdownIt().enable("table").parse(markdown)
    for token in tokens:
        kinds |= {token.type, *(child.type for child in token.children or [])}
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 3:
            tables[-1][-1].append("".join(child.content for child in token.children))
    return tables, kinds


def test_the_markdown_has_the_numbers_of_the_leaderboards(sweep):
    evaluation = read_evaluation(sweep)
    boards = leaderboards(Scores(evaluation), Comparisons(evaluation.comparisons))
    tables, _ = parsed((sweep / "leaderboard.md").read_text("utf-8"))
    values = {cell.split(" ")[0] for table in tables for line in table[1:] for cell in line[1:]}
    assert values >= {
        number.value for board in boards for line in board.lines for number in line.numbers if number.value
    }
    assert all(len({len(line) for line in table}) == 1 for table in tables)
    assert "clip-vit-base-patch32" in {line[0] for table in tables for line in table}


SAFE = re.compile(
    r"(?:[^\\&%$#_{}~^<>|\"]|\\[&%$#_{}]|\\text[a-z]+\{\}|\\(?:textbf|caption|begin|end|multicolumn)(?=\{)|\\ldots\{\}|"
    r"\\char34|\{|\}|\$[^$]*\$|\\(?:centering|small|toprule|midrule|bottomrule)\b|&| \\\\$)*"
)
"""A line of a table: no special character that is not escaped, no command but those that the tables are made of."""


def assert_compiles(text):
    """Environments and braces are balanced, rows have as many cells as the table has columns, all is escaped."""
    open_environments, columns = [], 0
    for line in text.splitlines():
        if line.startswith("%"):
            continue
        assert SAFE.fullmatch(line), line
        plain = re.sub(r"\\[\\{}%&$#_]", "", line)
        assert plain.count("{") == plain.count("}"), line
        if match := re.match(r"\\begin\{(\w+)\}(?:\{([lr]+)\})?", line):
            open_environments.append(match[1])
            columns = len(match[2] or "")
        elif match := re.match(r"\\end\{(\w+)\}", line):
            assert open_environments.pop() == match[1]
        elif line.endswith(r"\\"):
            cells = re.split(r"(?<!\\)&", line)
            spans = [int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(cells) + sum(spans) == columns, line
    assert open_environments == []


def test_the_latex_is_escaped_and_rectangular(sweep):
    text = (sweep / "leaderboard.tex").read_text("utf-8")
    assert_compiles(text)
    assert text.count(r"\toprule") == text.count(r"\begin{tabular}") > 5
    assert r"rocov2\_modality" in text


def test_names_of_strangers_break_no_format(tmp_path):
    hostile = "hf:" + HOSTILE.replace("/", "") + r"\input{x} $y$ 100% #1 ~^ _ {z} | `b` <http://a.b> [c](d) \\"
    rows = [row(hostile, 0.5), row("=cmd()", 0.25), row("@x", 0.75, task="a|b_*c*", metric="m & $\\n$")]
    failures = [{"checkpoint": hostile, "task": "t2", "split": "test", "reason": HOSTILE}]
    jsonl(tmp_path / "results.jsonl", rows)
    jsonl(tmp_path / "failures.jsonl", failures)
    assert HOSTILE in assert_safe(write_run_report(tmp_path)).text
    assert_compiles((tmp_path / "leaderboard.tex").read_text("utf-8"))
    tables, kinds = parsed((tmp_path / "leaderboard.md").read_text("utf-8"))
    assert [[len(line) for line in table] for table in tables] == [[3, 3, 3, 3]]
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "code_inline", "em_open"}
    cells = list(csv.reader((tmp_path / "results.csv").open(encoding="utf-8", newline="")))
    assert [line[0][:2] for line in cells[1:]] == ["hf", "'=", "'@"]


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("results.jsonl", {"n": 1.5}, "n is 1.5, expected a whole number that is not negative"),
        ("results.jsonl", {"protocol": {"in_train": {"samples": "many"}}}, "in its protocol, in_train is"),
        ("comparisons.jsonl", {"p_holm": "small"}, "p_holm is 'small', expected a finite number or null"),
        ("comparisons.jsonl", {"differing": "all"}, "differing is 'all', expected a list of a string or null"),
        ("subgroups.jsonl", {"group": ["CT"]}, "group is ['CT'], expected a string, a number, true, false or null"),
        ("calibration.jsonl", {"bins": [{"low": 0}]}, "bins is [{'low': 0}], expected a list of an object or null"),
        ("calibration.jsonl", {"risk_coverage": [[0.5]]}, "risk_coverage is [[0.5]]"),
        ("failures.jsonl", {"reason": None}, "reason is None, expected a string"),
    ],
)
def test_a_damaged_row_is_named_by_file_line_and_field(sweep, tmp_path, file, change, problem):
    first = json.loads((sweep / file).open(encoding="utf-8").readline())
    jsonl(tmp_path / "results.jsonl", [row("a.ckpt", 0.5)])
    jsonl(tmp_path / file, [first, first | change])
    with pytest.raises(NotARun) as error:
        write_run_report(tmp_path)
    assert f"{tmp_path / file}, line 2 is not as medvlp writes it: {problem}" in str(error.value)


def test_a_page_without_results_says_what_failed(tmp_path):
    (tmp_path / "results.jsonl").touch()
    jsonl(tmp_path / "failures.jsonl", [{"checkpoint": "hf:a/b", "task": "t", "split": "", "reason": "no <weights>"}])
    assert "no <weights>" in assert_safe(write_run_report(tmp_path)).text


def test_standings_follow_the_paired_tests():
    rows = [row(model, value) for model, value in (("a", 0.9), ("b", 0.88), ("c", 0.5), ("d", 0.7), ("e", None))]
    comparisons = [
        pair("a", "b", 0.02, 0.4),
        pair("c", "a", -0.4, 0.001),
        pair("a", "d", None, None, differing=["templates: x against y"]),
    ]
    scores = scores_of(rows, comparisons)
    (task,) = scores.tasks
    expected = {"a": BEST, "b": TIED, "c": WORSE, "d": UNCOMPARED}
    assert standings(scores, Comparisons(comparisons), task, "acc1") == expected
    assert standings(scores, Comparisons([]), task, "acc1") == {"a": BEST, "b": "", "c": "", "d": ""}
    reversed_pair = Comparisons(comparisons).pair(task, "acc1", "a", "c")
    assert (reversed_pair.difference, reversed_pair.p) == (0.4, 0.001)


def test_the_lowest_error_is_the_best():
    rows = [row(model, value, metric="ece") for model, value in (("a", 0.3), ("b", 0.1), ("c", 0.2))]
    comparisons = [pair("b", "a", -0.2, 0.01, "ece"), pair("b", "c", -0.1, 0.2, "ece")]
    scores = scores_of(rows, comparisons)
    (task,) = scores.tasks
    assert standings(scores, Comparisons(comparisons), task, "ece") == {"a": WORSE, "b": BEST, "c": TIED}


@pytest.mark.parametrize(
    ("overlap", "mark"),
    [
        (None, ""),
        ("unknown", "?"),
        ({"samples": 5, "same_bytes": 0, "same_picture": 0, "unknown": []}, ""),
        ({"samples": 5, "same_bytes": 0, "same_picture": 0, "unknown": ["data/x"]}, "?"),
        ({"samples": 5, "same_bytes": 1, "same_picture": 1, "unknown": ["data/x"]}, "†"),
        ({"samples": 5, "same_bytes": 0, "same_picture": 0, "same_group": 2}, "§"),
        ({"samples": 5, "same_bytes": 0, "same_picture": 0, "same_group": 5, "unknown": ["data/x"]}, "§"),
        ({"samples": 5, "same_bytes": 2, "same_picture": 0, "same_group": 3}, "†"),
        ({"samples": 5, "same_bytes": 3, "same_picture": 2}, "‡"),
    ],
)
def test_marks_of_training_data(overlap, mark):
    assert trained_mark({"in_train": overlap}) == mark
    assert not mark or mark in LEGEND


def test_the_part_that_is_not_in_train_has_the_marks_of_groups_and_of_what_nobody_knows():
    both = {"samples": 5, "same_id": 2, "same_group": 1}
    assert trained_mark({"in_train": both}, "acc1_in_train") == "†"
    assert trained_mark({"in_train": both}, "acc1_not_in_train") == "§"
    assert trained_mark({"in_train": {"samples": 5, "same_id": 2}}, "acc1_not_in_train") == ""
    assert trained_mark({"in_train": {"samples": 5, "same_id": 2, "unknown": ["x"]}}, "acc1_not_in_train") == "?"


def test_every_sign_has_words_for_papers_and_spreadsheets():
    for sign in LEGEND:
        assert latex(sign).isascii()
    assert {PARTLY, FULLY, RELATED, UNKNOWN} == IN_TRAIN.keys() - {""}


def test_leaderboards_are_by_kind_and_the_complete_ones_first():
    rows = [row(model, value, "t") for model, value in (("a", 9), ("b", 3), ("c", 7))]
    rows += [row("a", 9, "u"), row("b", 1, "u"), row("llm", 0.5, "q", "closed_accuracy", kind="vqa")]
    failures = [{"checkpoint": "c", "task": "u", "split": "test", "reason": "no memory"}]
    boards = leaderboards(scores_of(rows, failures=failures), Comparisons([]))
    assert [(board.title, [line.model for line in board.lines]) for board in boards] == [
        ("Zero-shot classification", ["a", "b", "c"]),
        ("Questions", ["llm"]),
    ]
    assert [line.rank for line in boards[0].lines] == ["1.0", "2.5", "2.0"]
    missing = boards[0].lines[2].numbers[1]
    assert (missing.value, missing.reason, missing.is_failure) == ("", "no memory", True)


def test_names_are_short_and_differ():
    names = checkpoint_names(
        [{"checkpoint": text} for text in [*MODELS, "hf:" + "x" * 90 + "/y" + "z" * 90, "api:#m", "hf:"]]
    )
    assert names["open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"].startswith("BiomedCLIP")
    assert names["api:http://localhost:8000/v1#qwen2.5-vl-72b-instruct"] == "qwen2.5-vl-72b-instruct"
    assert names["hf:google/medgemma-4b-it@main"] == "medgemma-4b-it@main"
    assert names["runs/clip_rocov2/checkpoints/last.ckpt"] == "clip_rocov2/last"
    assert len(set(names.values())) == len(names)
    assert max(map(len, names.values())) <= LONGEST_NAME


@pytest.mark.parametrize(
    ("low", "high", "words", "ignores"),
    [
        (-0.05, 0.03, "There is no sign that this model uses the image", True),
        (-0.05, -0.01, "higher with another sample's image than with the right one", True),
        (0.01, 0.09, "This model uses the image", False),
        (None, None, "Without an interval it is open", True),
    ],
)
def test_a_model_that_ignores_the_image_is_said_in_words(low, high, words, ignores):
    rows = [
        row("m", 0.684, metric="closed_accuracy", kind="vqa"),
        row("m", -0.007, metric="closed_accuracy/minus_shuffled_images", low=low, high=high, n=272, kind="vqa"),
        row("m", 0.5, metric="closed_accuracy/minus_blank_image", low=0.4, high=0.6, kind="vqa"),
    ]
    (reliance,) = reliances(scores_of(rows))
    assert words in reliance.sentences[0]
    assert "closed 0.684, with another sample's image 0.691; difference -0.007" in reliance.sentences[0]
    assert "n = 272" in reliance.sentences[0]
    assert (reliance.ignores, bool(blind_models([reliance]))) == (ignores, ignores)


def test_the_visual_reliance_score_decides_and_the_protocols_sentences_are_taken():
    """The metrics and sentences are those that the evaluation itself computes."""
    records = [
        {"score": float(right), "scores": {"exact_match": float(right), "closed_accuracy": float(right)}, "id": str(i),
         "answer_type": "closed", "prediction": "yes" if right else "no", "target": "yes", "images": 1,
         "controls": {"shuffled_images": "yes" if right else "no"},
         "control_scores": {"shuffled_images": {"closed_accuracy": float(right)}}}
        for i, right in enumerate([1, 0, 1])
    ]  # fmt: skip
    columns = {name: sum(column) / 3 for name, column in reliance_columns(records).items() if None not in column}
    values = [MetricValue(name, value, value, value, 3) for name, value in columns.items()]
    sentences = reliance_sentences(values)
    assert "ignores the image" in sentences[0]
    rows = [
        row("m", v.value, metric=v.name, low=v.ci_low, high=v.ci_high, kind="vqa", reliance=sentences) for v in values
    ]
    rows.append(row("m", 0.66, metric="closed_accuracy", kind="vqa"))
    (page,) = reliances(scores_of(rows))
    assert (page.ignores, page.sentences) == (True, sentences)
    assert [measure.name for measure in page.measures][:2] == ["visual reliance score", "image sensitivity"]
    assert blind_models([page]) == [f"m on t: {sentences[0]}"]


def test_terminals_get_leaderboards_of_many_models(sweep):
    evaluation = read_evaluation(sweep)
    printed = results_table(evaluation.results, evaluation.comparisons, evaluation.failures)
    assert max(map(len, printed.splitlines()[:60])) <= 160
    for expected in ("Zero-shot classification", "clip_rocov2/step-000100", "failed", "★", "≈", "all metrics", "‡ all"):
        assert expected in printed
    assert "letter_likelihood_accuracy/minus_blank_image" not in printed
