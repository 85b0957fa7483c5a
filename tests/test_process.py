"""A command ends at a signal with one line and its code, whatever it is in the middle of, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BEGIN = "import multiprocessing, os, signal, sys, time\nfrom medvlp import process\nprocess.GRACE = 0.5\n"
READY = "print('ready', flush=True)\n"


def begin(work: str) -> subprocess.Popen:
    """A command `medvlp made` that does `work`, once it has said that it is ready."""
    code = BEGIN + f"def work():\n{textwrap.indent(work, '    ')}\nsys.exit(process.command('made', work))\n"
    command = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert command.stdout.readline() == "ready\n", command.communicate()
    return command


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 120
    while is_alive(pid):
        assert time.monotonic() < end, "it lives on"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_command_with_3_and_one_line(number):
    command = begin(READY + "time.sleep(1000)")
    command.send_signal(number)
    _, told = command.communicate(timeout=120)
    assert (command.returncode, told) == (3, f"medvlp made: stopped by {number.name}\n")


def test_a_command_that_swallows_it_is_ended_by_force():
    work = (
        "while True:\n    try:\n        print('ready', flush=True)\n        time.sleep(1000)\n"
        "    except BaseException:\n        pass"
    )
    command = begin(work)
    command.send_signal(signal.SIGTERM)
    _, told = command.communicate(timeout=120)
    assert (command.returncode, told) == (3, "medvlp: SIGTERM: ended by force after 0 s\n")


def test_a_save_is_waited_for_and_what_comes_after_it_is_not():
    work = (
        "process.interruption.deferred = True\n"
        "with process.interruption.unhurried():\n"
        "    print('ready', flush=True)\n"
        "    end = time.monotonic() + 1.5\n"
        "    while time.monotonic() < end: time.sleep(0.1)\n"
        "    print('saved', flush=True)\n"
        "time.sleep(1000)"
    )
    command = begin(work)
    command.send_signal(signal.SIGTERM)
    said, told = command.communicate(timeout=120)
    assert said == "saved\n"
    assert command.returncode == 3
    assert "ended by force" in told


def test_a_second_ctrl_c_ends_at_once_what_defers_the_first():
    command = begin(
        "process.IMPATIENCE = 0.1\nprocess.GRACE = 1000\nprocess.interruption.deferred = True\n"
        + READY
        + "time.sleep(1000)"
    )
    command.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert command.poll() is None
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=120)
    assert (command.returncode, told) == (3, "medvlp: SIGINT: ended by force at once\n")


def test_what_was_deferred_is_raised_where_it_may_be():
    work = (
        "process.interruption.deferred = True\n" + READY + "while not process.interruption.reason: time.sleep(0.01)\n"
        "with process.interruption.raising():\n"
        "    print('never')\n"
    )
    command = begin(work)
    command.send_signal(signal.SIGTERM)
    assert command.communicate(timeout=120) == ("", "medvlp made: stopped by SIGTERM\n")
    assert command.returncode == 3


CHILD = (
    "with process.holding_signals() as children:\n"
    "    child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,), daemon=True)\n"
    "    child.start()\n"
    "assert children == {child}\n" + READY + "print(child.pid, flush=True)\n"
)


@pytest.mark.parametrize(("end", "code"), [("return 1", 1), ("raise ValueError('ours')", 70), ("time.sleep(1000)", 3)])
def test_children_take_no_signals_and_do_not_outlive_their_parent(end, code):
    command = begin(CHILD + "time.sleep(0.2)\n" + end)
    child = int(command.stdout.readline())
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(child, number)
    time.sleep(0.05)
    assert is_alive(child)
    if code == 3:
        time.sleep(0.3)
        command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=120)
    assert command.returncode == code
    assert ("Traceback" in told) == (code == 70)
    wait_until_gone(child)


def test_a_thread_that_never_ends_does_not_keep_a_failed_command():
    command = begin(READY + "import threading\nthreading.Thread(target=time.sleep, args=(1000,)).start()\nreturn 1")
    command.communicate(timeout=120)
    assert command.returncode == 1


def test_whoever_stops_reading_its_output_gets_no_traceback():
    command = begin(READY + "for _ in range(100_000): print('a finding')")
    command.stdout.close()
    assert (command.wait(20), command.stderr.read()) == (1, "")


def test_in_another_program_a_verb_leaves_the_signals_as_it_found_them():
    from medvlp import process

    before = [signal.getsignal(number) for number in process.WATCHED]
    assert process.run("made", lambda: 5) == 5
    assert [signal.getsignal(number) for number in process.WATCHED] == before
