"""Comparisons of whole folders: alignment, protocol cards, files that cannot be read."""

import json
from dataclasses import replace

import pytest

from medvlp.eval.bootstrap import Bootstrap, MetricValue
from medvlp.eval.errors import RecordsError
from medvlp.eval.statistics import comparisons
from medvlp.eval.statistics.cards import card, differences
from medvlp.eval.statistics.comparisons import COMPARISONS, compare, compare_folder
from medvlp.eval.statistics.result_files import read_results
from medvlp.eval.task import TaskResult
from medvlp.jsonl import read_rows, write_rows
from medvlp.report.comparisons import wins_ties_losses
from tests.eval.colour_world import sample
from tests.eval.test_task import run, zero_shot
from tests.results import write_result

QUICK = Bootstrap(400, 1)
BASE = {
    "kind": "vqa", "version": 1, "split": "test", "split_hash": "h", "n": 4, "instruction": "", "decoding": "greedy",
    "scorers": {"x": "y"}, "controls": {}, "bootstrap": {"method": "m", "level": 0.95, "seed": 0}, "use": "research",
}  # fmt: skip


def result_of(hits, task="made", **protocol):
    """hits: id → whether the answer is right."""
    records = [
        {"id": name, "group": name[0], "scores": {"closed_accuracy": float(hit)}, "control_scores": {}}
        for name, hit in hits.items()
    ]
    return TaskResult(task, "vqa", [], records, {**BASE, "n": len(hits), **protocol})


def add(folder, model, result):
    metrics = [MetricValue("closed_accuracy", 0.5, 0.0, 1.0, 1)]
    write_result(folder, model, replace(result, metrics=metrics))


ITEMS = {f"{group}{i}": (ord(group) + i) % 3 > 0 for group in "abcdefgh" for i in range(5)}


def test_all_pairs_of_all_tasks_and_a_family_for_each(tmp_path):
    opposite = {name: not hit for name, hit in ITEMS.items()}
    for task in ("one", "two"):
        for model, hits in (("a.ckpt", ITEMS), ("b.ckpt", opposite), ("c.ckpt", ITEMS)):
            add(tmp_path, model, result_of(hits, task))
    rows = compare_folder(tmp_path, QUICK)
    assert rows == list(read_rows(tmp_path / COMPARISONS))
    assert [(row["task"], row["a"], row["b"]) for row in rows[:3]] == [
        ("one", "a.ckpt", "b.ckpt"), ("one", "a.ckpt", "c.ckpt"), ("one", "b.ckpt", "c.ckpt"),
    ]  # fmt: skip
    first, equal, reverse = rows[:3]
    right = sum(ITEMS.values())
    assert first["difference"] == pytest.approx((2 * right - 40) / 40)
    assert (first["wins"], first["ties"], first["losses"]) == (right, 0, 40 - right)
    assert (first["n"], first["clusters"], first["use"]) == (40, 8, "research")
    assert reverse["difference"] == pytest.approx(-first["difference"])
    assert (reverse["ci_low"], reverse["ci_high"]) == pytest.approx((-first["ci_high"], -first["ci_low"]))
    assert (equal["difference"], equal["p"], equal["p_holm"]) == (0, 1, 1)
    assert first["p_holm"] == pytest.approx(min(1, 3 * first["p"]))  # of three pairs, on one metric, of one task
    assert len(rows) == 6


def test_finished_families_are_kept_until_something_of_them_changes(tmp_path, monkeypatch):
    file, computed = tmp_path / "cells" / "comparisons.json", []
    of_family = comparisons._Family.comparisons
    monkeypatch.setattr(
        comparisons._Family, "comparisons", lambda self: computed.append(self.results[0].task) or of_family(self)
    )

    def compared(bootstrap=QUICK):
        computed.clear()
        rows = compare_folder(tmp_path, bootstrap, file)
        names = list(computed)
        assert rows == compare_folder(tmp_path, bootstrap) == list(read_rows(tmp_path / COMPARISONS))
        return names

    opposite = {name: not hit for name, hit in ITEMS.items()}
    for task in ("one", "two"):
        for model, hits in (("a.ckpt", ITEMS), ("b.ckpt", opposite)):
            add(tmp_path, model, result_of(hits, task))
    assert compared() == ["one", "two"]
    assert compared() == []
    add(tmp_path, "b.ckpt", result_of(opposite | {"a0": True}, "one"))  # other records
    assert compared() == ["one"]
    add(tmp_path, "b.ckpt", result_of(opposite, "two", split_hash="other"))  # another protocol
    assert compared() == ["two"]
    add(tmp_path, "c.ckpt", result_of(ITEMS, "two"))  # another model
    assert compared() == ["two"]
    assert compared(Bootstrap(300, 1)) == ["one", "two"]
    file.write_bytes(file.read_bytes()[:-9])
    assert compared(Bootstrap(300, 1)) == ["one", "two"]
    next((tmp_path / "samples").rglob("*.jsonl")).unlink()
    assert len(compared(Bootstrap(300, 1))) == 1  # records that are not there are looked for again


def test_items_that_only_one_has_are_counted_named_and_ignored(tmp_path):
    fewer = {name: hit for name, hit in ITEMS.items() if name not in ("a0", "c3")}
    add(tmp_path, "a.ckpt", result_of(ITEMS))
    add(tmp_path, "b.ckpt", result_of({"z9": True, **fewer}))
    (row,) = compare_folder(tmp_path, QUICK)
    assert (row["n"], row["only_a"], row["only_b"], row["difference"]) == (38, 2, 1, 0)
    assert row["differing"] == [
        "n: 40 against 39",
        "1 item that a.ckpt does not have: z9",
        "2 items that b.ckpt does not have: a0, c3",
    ]


@pytest.mark.parametrize(
    ("line", "change", "sentence"),
    [
        ("split_hash", {"split_hash": "other"}, "split_hash: 'h' against 'other'"),
        ("instruction", {"instruction": "Be brief."}, "instruction: not stated against 'Be brief.'"),
        ("version", {"version": 2}, "version: 1 against 2"),
        ("scorers", {"scorers": {"x": "z", "w": "v"}}, "scorers: x 'y' against 'z', w not stated against 'v'"),
        (
            "bootstrap.level",
            {"bootstrap": {"method": "m", "level": 0.9, "seed": 0}},
            "bootstrap.level: 0.95 against 0.9",
        ),
    ],
)
def test_a_line_that_decides_and_differs_is_named_and_nothing_is_compared(tmp_path, line, change, sentence):
    add(tmp_path, "a.ckpt", result_of(ITEMS))
    add(tmp_path, "b.ckpt", result_of(ITEMS, **change))
    add(tmp_path, "c.ckpt", result_of(ITEMS))
    with_change, without, again = compare_folder(tmp_path, QUICK)
    assert with_change["differing"] == [sentence]
    assert [with_change[name] for name in ("difference", "p", "p_holm", "ci_low", "wins")] == [None] * 5
    assert (without["difference"], without["differing"]) == (0, [])
    assert again["difference"] is None
    (difference,) = differences(result_of(ITEMS).protocol, result_of(ITEMS, **change).protocol)
    assert (difference.line, difference.decides) == (line, True)


def test_a_rank_depends_on_the_gallery_and_an_answer_does_not():
    retrieval, smaller = ({"kind": "retrieval", "n": n, "unique_n": n} for n in (9, 8))
    assert [d.line for d in differences(retrieval, smaller) if d.decides] == ["n", "unique_n"]
    classes = {"kind": "zero_shot", "n": 9, "classes": {"a": ["a"]}}
    assert [d.decides for d in differences(classes, {**classes, "n": 8})] == [False]
    assert card(classes)["classes"] == {"a": ["a"]}
    assert card(classes)["templates"] is None


def test_a_model_s_own_lines_do_not_decide():
    a = {**BASE, "weights": "1", "first_prompt": "<s>", "data": "here/test", "in_train": None}
    assert (
        differences(a, {**a, "weights": "2", "first_prompt": "[INST]", "data": "there/test", "in_train": "unknown"})
        == []
    )


def test_records_that_cannot_be_read_are_named_and_the_others_compared(tmp_path):
    for model in ("a.ckpt", "b.ckpt", "c.ckpt"):
        add(tmp_path, model, result_of(ITEMS))
    path = tmp_path / read_results(tmp_path)[1].protocol["records"]
    path.unlink()
    rows = compare_folder(tmp_path, QUICK)
    assert [row["difference"] for row in rows] == [None, 0, None]
    assert f"{path} is not there: the records of b.ckpt on made" in rows[0]["differing"][0]
    path.write_text('{"id": "a0", "group": "a"}\n')
    assert "run `medvlp eval` again" in compare_folder(tmp_path, QUICK)[0]["differing"][0]
    path.write_text("broken\n")
    assert "line 1: not a JSON object" in compare_folder(tmp_path, QUICK)[0]["differing"][0]


def test_a_path_out_of_the_folder_is_refused(tmp_path):
    add(tmp_path / "in", "a.ckpt", result_of(ITEMS))
    rows = list(read_rows(tmp_path / "in/results.jsonl"))
    rows[0]["protocol"]["records"] = "../secret.jsonl"
    (tmp_path / "secret.jsonl").write_text('{"id": "x"}\n')
    (tmp_path / "in/results.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(RecordsError, match=r"'../secret.jsonl', which is outside of"):
        read_results(tmp_path / "in")[0].records()


@pytest.mark.parametrize("row", ['{"task": "t"}', '{"checkpoint": 1, "task": "t", "metric": "m", "protocol": {}}'])
def test_a_row_that_is_no_result_is_named(tmp_path, row):
    (tmp_path / "results.jsonl").write_text(row + "\n")
    with pytest.raises(RecordsError, match="row 1: not a result"):
        read_results(tmp_path)


def test_without_results_the_folder_is_named(tmp_path):
    with pytest.raises(RecordsError, match=r"it has no results.jsonl; give a folder of `medvlp eval`"):
        read_results(tmp_path)
    with pytest.raises(RecordsError, match="there is no such folder"):
        read_results(tmp_path / "gone")


def test_one_model_has_no_comparisons(tmp_path):
    add(tmp_path, "a.ckpt", result_of(ITEMS))
    (tmp_path / COMPARISONS).write_text("old\n")
    assert compare_folder(tmp_path, QUICK) == []
    assert not (tmp_path / COMPARISONS).exists()


def test_a_task_s_own_results_are_compared_on_its_main_metrics(tmp_path):
    rows = [
        sample(f"{i}", "red" if i % 3 else "blue", f"p{i // 2}", hue="red" if i % 2 else "green") for i in range(12)
    ]
    for model in ("a.ckpt", "b.ckpt"):
        write_result(tmp_path, model, run(zero_shot(rows)))
    comparisons = compare(read_results(tmp_path), QUICK)
    assert [(c.metric, c.result.difference) for c in comparisons] == [("acc1", 0.0), ("auroc", 0.0)]
    assert [c.metric for c in compare(read_results(tmp_path), QUICK, ["mean_per_class_recall"])] == [
        "mean_per_class_recall"
    ]


DAMAGE = {
    "scores a list": lambda record: record | {"scores": ["x"]},
    "control_scores a list": lambda record: record | {"control_scores": [1]},
    "a number beyond float64": lambda record: record | {"scores": {"closed_accuracy": 10**400}},
    "infinity": lambda record: record | {"scores": {"closed_accuracy": float("inf")}},
    "a text": lambda record: record | {"scores": {"closed_accuracy": "a"}},
    "no scores": lambda record: record | {"scores": {}},
    "no group": lambda record: {name: value for name, value in record.items() if name != "group"},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_records_of_one_model_do_not_take_the_others_comparison(tmp_path, damage):
    for model in ("a.ckpt", "b.ckpt", "c.ckpt"):
        add(tmp_path, model, result_of(ITEMS, controls={"blank_image": {}}))
    of_b = read_results(tmp_path)[1]
    damaged = [json.dumps(damage(record)) for record in of_b.records()]
    (tmp_path / of_b.protocol["records"]).write_text("\n".join(damaged).replace("Infinity", "1e400") + "\n")
    rows = compare_folder(tmp_path, QUICK)
    assert [row["difference"] for row in rows] == [None, 0, None]
    assert rows[0]["differing"][0].startswith("b.ckpt on made: ")


@pytest.mark.parametrize("name", ["x" * 300 + ".jsonl", "samples/\0.jsonl"])
def test_records_without_a_name_of_a_file_are_named(tmp_path, name):
    for model in ("a.ckpt", "b.ckpt"):
        add(tmp_path, model, result_of(ITEMS))
    first, second = read_results(tmp_path)
    comparisons = compare([replace(first, protocol={**first.protocol, "records": name}), second], QUICK)
    assert "have no name of a file" in comparisons[0].unread[0]


RECALLS = ("image_to_text", "text_to_image")


def retrieval_of(directions):
    records = [
        {"id": f"{i}", "group": f"{i}", "direction": direction, "rank": 1 + (i % 12), "fields": {}}
        for direction in directions
        for i in range(20)
    ]
    metrics = [MetricValue(f"{direction}_recall@10", 0.5, 0.0, 1.0, 20) for direction in RECALLS]
    protocol = {**BASE, "kind": "retrieval", "recall_at": [1, 10]}
    return TaskResult("made", "retrieval", metrics, records, protocol)


@pytest.mark.parametrize("directions", [RECALLS[:1], ()])
def test_records_that_were_cut_after_a_direction_are_named(tmp_path, directions):
    for model in ("a.ckpt", "b.ckpt"):
        write_result(tmp_path, model, retrieval_of(RECALLS))
    write_result(tmp_path, "c.ckpt", retrieval_of(directions))
    rows = compare_folder(tmp_path, QUICK)
    assert [row["difference"] for row in rows if "c.ckpt" not in (row["a"], row["b"])] == [0, 0]
    of_c = [row for row in rows if row["b"] == "c.ckpt"]
    assert len(of_c) == 4
    assert all("nothing of" in row["differing"][0] for row in of_c)


def test_directions_are_paired_by_name_whatever_their_order(tmp_path):
    write_result(tmp_path, "a.ckpt", retrieval_of(RECALLS))
    write_result(tmp_path, "b.ckpt", retrieval_of(RECALLS[::-1]))
    assert [row["difference"] for row in compare_folder(tmp_path, QUICK)] == [0, 0]


def test_of_an_error_less_is_better(tmp_path):
    for model, unparsed in (("a.ckpt", 1.0), ("b.ckpt", 0.0)):
        result = result_of(ITEMS)
        add(tmp_path, model, replace(result, records=[r | {"scores": {"unparsed": unparsed}} for r in result.records]))
        rows = [row | {"metric": "unparsed"} for row in read_rows(tmp_path / "results.jsonl")]
        write_rows(tmp_path / "results.jsonl", rows)
    (comparison,) = compare(read_results(tmp_path), QUICK, ["unparsed"])
    row = comparison.row()
    assert (row["difference"], row["wins"], row["losses"]) == (1.0, 0, 40)
    assert wins_ties_losses([row]) == {"a.ckpt": {"b.ckpt": (0, 0, 1)}, "b.ckpt": {"a.ckpt": (1, 0, 0)}}


BEST = {
    "prompt_sets": {"x": "Be brief.", "y": "Think."},
    "prompt_set_chosen": "best mean score on the validation split: x 0.1",
}
FIRST = {**BEST, "prompt_set_chosen": "the first, because the task has no other split to choose on"}


@pytest.mark.parametrize(
    ("a", "b", "decides"),
    [
        (BEST, {**BEST, "prompt_set_chosen": "best mean score on the validation split: y 0.2"}, False),
        (BEST, FIRST, True),
        (BEST, {**BEST, "prompt_sets": {"y": "Think."}}, True),
        (BEST, {}, True),
        ({}, {}, True),
    ],
)
def test_prompts_chosen_from_the_same_sets_by_the_same_rule_do_not_decide(a, b, decides):
    lines = differences({**BASE, **a, "instruction": "Be brief."}, {**BASE, **b, "instruction": "Think."})
    of_instruction = next(line for line in lines if line.line == "instruction")
    assert of_instruction.decides is decides
