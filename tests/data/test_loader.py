"""Loader workers end with their loader, and one that the system killed is told as that."""

import os
import signal
import time

import pytest
from torch.utils.data import DataLoader, Dataset

from medvlp import process
from medvlp.data.loader import batches
from medvlp.process import WorkerKilled, killed
from medvlp.shards import ShardError
from tests.test_process import is_alive, wait_until_gone


class Made(Dataset):
    """Rows are their worker's process, but for one row."""

    def __init__(self, last: str) -> None:
        self.last = last

    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> int:
        if row == 7 and self.last == "waits":
            time.sleep(1000)
        if row == 7 and self.last == "raises":
            raise ShardError("/data/x is damaged\nrestore it")
        if row == 7 and self.last == "breaks":
            return [][0]
        if row == 7 and self.last != "waits":
            os.kill(os.getpid(), signal.Signals[self.last])
        return os.getpid()


def read(last: str):
    return batches(DataLoader(Made(last), batch_size=1, num_workers=2, prefetch_factor=1))


def test_a_worker_takes_no_signal_and_is_gone_when_its_reader_is_even_if_it_hangs(monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 600)  # PyTorch alone waits so long for each
    reader = read("waits")
    pids = {int(next(reader)) for _ in range(6)}
    assert len(pids) == 2
    for pid in pids:
        for number in process.WATCHED:
            os.kill(pid, number)
    time.sleep(0.1)
    assert all(map(is_alive, pids))
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 300
    for pid in pids:
        wait_until_gone(pid)
    assert process.children() == set()


@pytest.mark.parametrize(("name", "advice"), [("SIGKILL", "ran out of memory"), ("SIGBUS", "shared memory")])
def test_a_killed_worker_is_told_with_what_to_do(name, advice):
    with pytest.raises(WorkerKilled, match=rf"ended by the system \({name}\).*{advice}"):
        list(read(name))


def test_a_crash_is_not_told_as_want_of_memory():
    with pytest.raises(RuntimeError, match="DataLoader worker") as crash:
        list(read("SIGTRAP"))
    assert not isinstance(crash.value, WorkerKilled)


def test_an_error_of_a_worker_is_what_was_raised_there():
    with pytest.raises(ShardError) as told:
        list(read("raises"))
    assert str(told.value) == "/data/x is damaged\nrestore it"
    with pytest.raises(IndexError) as fault:
        list(read("breaks"))
    assert str(fault.value) == "list index out of range"
    assert "in __getitem__\n" in str(fault.value.__cause__)  # where it happened is for the traceback


class Gone:
    exitcode = -9


def test_a_pipe_that_breaks_first_is_told_as_the_kill_that_broke_it():
    assert isinstance(killed(ConnectionResetError("Connection reset by peer"), [Gone()]), WorkerKilled)
    assert isinstance(killed(EOFError(), [Gone()]), WorkerKilled)
    assert killed(ValueError("ours"), [Gone()]) is None
    assert killed(ConnectionResetError("of a logger's server"), []) is None
