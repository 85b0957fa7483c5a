"""Ranks begin together or not at all, and every one of them learns why."""

import threading
import time

import pytest
import torch.distributed as dist

from medvlp.training.agreement import Peers, Refusal, Refused, lost_rank, plain


def together(work, size=3, patience=20.0):
    """What `work(peers)` gives or raises on each rank."""
    store, told = dist.HashStore(), [None] * size

    def begin(rank):
        try:
            told[rank] = work(Peers(store, rank, size, patience))
        except Refused as refused:
            told[rank] = refused

    threads = [threading.Thread(target=begin, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a rank waits for ever"
    return told


def facts(**values):
    return {name: (str(value), f"<{value}>") for name, value in values.items()}


def test_equal_ranks_go_on_subject_by_subject():
    def work(peers):
        peers.agree("one", facts(seed=1))
        peers.agree("two", facts(steps=peers.size))
        return "on"

    assert together(work) == ["on"] * 3


def test_what_differs_is_named_with_both_sides_on_every_rank():
    def work(peers):
        return peers.agree(
            "the configuration", facts(seed=1, lr=[3, 3, 4][peers.rank], **({} if peers.rank else {"x": 5}))
        )

    told = together(work)
    assert [(refused.code, refused.is_speaker) for refused in told] == [(1, True), (1, False), (1, False)]
    assert len({str(refused) for refused in told}) == 1
    lines = str(told[0]).splitlines()
    assert lines[0] == "the ranks differ in the configuration; start all of them alike:"
    assert lines[1].startswith("  x: <5> on rank 0 (")
    assert ", nothing on rank 1 (" in lines[1]


def test_a_refusal_of_one_is_a_refusal_of_all():
    def work(peers):
        return peers.agree("data", facts(seed=1), Refusal("/data/x does not exist", 1) if peers.rank == 2 else None)

    told = together(work)
    assert [(refused.code, refused.is_speaker) for refused in told] == [(1, True), (1, False), (1, False)]
    assert str(told[0]).startswith("rank 2 on ")
    assert ": /data/x does not exist\n(1 of 3 ranks refuses, rank 0 on " in str(told[0])


def test_a_refusal_that_all_share_is_told_once_and_as_it_is():
    told = together(lambda peers: peers.agree("data", {}, Refusal("no such option", 70)))
    assert [(str(refused), refused.code, refused.is_speaker) for refused in told] == [
        ("no such option", 70, rank == 0) for rank in range(3)
    ]


@pytest.mark.parametrize("absent", [0, 2])
def test_nobody_waits_for_ever(absent):
    def work(peers):
        return peers.agree("data", facts(seed=1)) if peers.rank != absent else "elsewhere"

    told = together(work, patience=0.3)
    refused = [ending for ending in told if ending != "elsewhere"]
    assert {str(ending) for ending in refused} == {f"rank {absent} did not come to data in 0 s; see its log"}
    assert sum(ending.is_speaker for ending in refused) == 1


def test_a_rank_that_fails_before_an_agreement_ends_the_others_wait():
    def work(peers):
        if peers.rank == 1:
            return peers.fail("it broke", 70)
        return peers.agree("data", facts(seed=1))

    told = together(work)
    expected = [("it broke", 70, rank == 1) for rank in range(3)]
    assert [(str(ending), ending.code, ending.is_speaker) for ending in told] == expected


def test_the_first_failure_counts_and_ends_those_who_watch():
    ended = []

    def work(peers):
        peers.watch("data", lambda message, code: ended.append((peers.rank, message, code)))
        if peers.rank == 0:
            told = peers.fail("the loss is nan", 1)
        else:
            end = time.monotonic() + 120
            while not any(rank == peers.rank for rank, _, _ in ended) and time.monotonic() < end:
                time.sleep(0.02)
            told = peers.fail("gloo: connection closed", 70)
        peers.rest()
        return told

    told = together(work)
    assert [(str(ending), ending.code, ending.is_speaker) for ending in told] == [
        ("the loss is nan", 1, rank == 0) for rank in range(3)
    ]
    assert sorted(ended) == [(rank, "the loss is nan", 1) for rank in (1, 2)]


def test_a_refusal_ends_what_another_rank_waits_for_before_it_comes_to_agree(monkeypatch):
    monkeypatch.setattr("medvlp.training.agreement.POLL", 0.05)
    monkeypatch.setattr("medvlp.training.agreement.LATE", 0.1)

    def work(peers):
        ended = threading.Event()
        peers.watch("data", lambda message, code: ended.set())
        if peers.rank == 1:
            assert ended.wait(20)  # for features that rank 0 will never write, say
        peers.agree("data", facts(seed=1), None if peers.rank else Refusal("no such tower", 1))

    told = together(work)
    assert {str(ending).splitlines()[0].partition(": ")[2] for ending in told} == {"no such tower"}
    assert [ending.is_speaker for ending in told] == [True, False, False]


def test_one_rank_alone_asks_nobody():
    alone = Peers()
    alone.agree("data", facts(seed=1))
    with pytest.raises(Refused, match="no such option") as refused:
        alone.agree("data", {}, Refusal("no such option", 1))
    assert refused.value.is_speaker
    assert alone.fail("it broke", 70).code == 70


def test_what_the_end_of_another_rank_looks_like():
    gloo_message = (
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:3456"
    )
    assert lost_rank(RuntimeError(gloo_message))
    assert lost_rank(dist.DistBackendError("NCCL error"))
    assert not lost_rank(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lost_rank(ConnectionResetError("Connection reset by peer"))


def test_a_configuration_is_told_by_its_keys():
    assert plain({"a": {"b": 1, "c": {}}, "d": [2]}) == {"a.b": "1", "a.c": "{}", "d": "[2]"}
