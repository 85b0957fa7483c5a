"""The check of a GPU: a part that fails costs no other, and every line of it runs on a CPU."""

import sys

import pytest

from benchmarks.gpu.__main__ import main, rows_of
from benchmarks.gpu.device import planned_name
from benchmarks.gpu.parts import PARTS
from medvlp.jsonl import read_rows

WORKER = """
import json, os, sys, time
pipe = os.fdopen(int(sys.argv[1]), "w")
for name in sys.argv[2:]:
    if name == "dies":
        os._exit(7)
    if name == "hangs":
        time.sleep(60)
    print(json.dumps({"part": name, "status": "done"}), file=pipe, flush=True)
"""


def command(pipe, parts):
    return [sys.executable, "-S", "-c", WORKER, str(pipe), *parts]


def test_a_part_that_dies_or_hangs_costs_no_other():
    rows = list(rows_of({"a": 20, "dies": 20, "b": 20, "hangs": 0.2, "c": 20}, command, 60, 5))
    assert [(row["part"], row["status"]) for row in rows] == [
        ("a", "done"),
        ("dies", "failed"),
        ("b", "done"),
        ("hangs", "failed"),
        ("c", "done"),
    ]
    assert rows[1]["reason"] == "its process ended with 7"
    assert rows[3]["reason"] == "stopped after 0 s"


def test_what_no_time_is_left_for_is_named():
    rows = list(rows_of({"hangs": 60, "a": 20}, command, 0.3, 0))
    assert [row["reason"] for row in rows] == ["stopped after 0 s", "no time left"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA H100 PCIe", ""),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", ""),
        ("NVIDIA GH200 480GB", ""),
        ("Tesla V100-SXM2-32GB", ""),
        ("cpu", ""),
    ],
)
def test_shares_of_a_peak_are_of_the_device_s_own(name, key):
    assert planned_name(name) == key


@pytest.mark.slow
def test_every_part_runs_tiny_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--output", str(tmp_path / "gpu.jsonl")])
    assert main() == 0
    rows = read_rows(tmp_path / "gpu.jsonl")
    assert [row["part"] for row in rows] == list(PARTS)
    assert {row["part"] for row in rows if row["status"] == "skipped"} <= {"nf4"}  # without bitsandbytes
