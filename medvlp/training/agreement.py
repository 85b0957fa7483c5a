"""Agreement between the ranks of a run: that they mean the same, and that one of them has failed.

All of it goes through the store that torchrun keeps for its ranks, which is there before any process group is, and which
a rank's end does not take along.
"""

import hashlib
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch.distributed as dist

from medvlp.distributed import launched_rank, launched_world_size
from medvlp.process import STOPPED, Stopped

PATIENCE = 600.0
"""Seconds that ranks wait for the last one to come to an agreement."""
POLL = 1.0
"""Seconds between two looks at whether another rank has failed."""
LATE = 10.0
"""Seconds that a rank has to come to an agreement by itself where another one refuses."""
END_KEY = "ended"
MAX_NAMED = 5
"""Differences that a message names."""
PACKAGES = ("medvlp", "torch", "lightning", "transformers", "open_clip_torch", "timm", "numpy", "pillow")
LOST = (
    "another rank ended without a word; torchrun's lines below say which, and by which signal (-9, SIGKILL, is most often a "
    "machine that ran out of memory). Fix that, and go on with resume=auto"
)


@dataclass(frozen=True)
class Refusal:
    """Why a run cannot begin. code: the exit code that it ends with."""

    message: str
    code: int = 1


Fact = tuple[str, str]
"""(what is compared, how it is shown)."""
ABSENT: Fact = ("", "nothing")


class Refused(Exception):
    """The ranks have agreed not to begin, or to end; on every rank the same.

    Args:
        message: for the person.
        code: the exit code.
        is_speaker: whether this rank is the one that says it.
    """

    def __init__(self, message: str, code: int, is_speaker: bool) -> None:
        super().__init__(message)
        self.code, self.is_speaker = code, is_speaker


def say_ending(ending: Refused) -> int:
    """What the ranks agreed on, said by the one whose turn it is; returns the exit code."""
    if ending.is_speaker:
        print(f"medvlp train: {ending}", file=sys.stderr, flush=True)
    return ending.code


class Peers:
    """The ranks of a run, of which this process is one. With one rank there is nobody to ask, and nothing to wait for.

    Args:
        store: None for one rank.
        patience: seconds to wait for the last rank.
    """

    def __init__(self, store: Any = None, rank: int = 0, size: int = 1, patience: float = PATIENCE) -> None:
        self.store, self.rank, self.size, self.patience = store, rank, size, patience
        self.watching: threading.Event | None = None
        self.subject = ""
        """The subject that this rank has come to last."""

    join_count = itertools.count()

    @classmethod
    def join(cls, patience: float = PATIENCE) -> "Peers":
        """The ranks that torchrun started with this one.

        Raises:
            Refused: their store cannot be reached.
        """
        size = launched_world_size()
        if size == 1:
            return cls()
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(seconds=patience)))
        except (dist.DistError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise Refused(f"rank {launched_rank()} cannot reach the other ranks: {reason}", 1, True) from None
        return cls(dist.PrefixStore(f"medvlp/{next(cls.join_count)}", store), rank, size, patience)

    def agree(self, subject: str, facts: Mapping[str, Fact], refusal: Refusal | None = None) -> None:
        """Go on together, or not at all. Every rank calls it at the same point of a run, once a subject.

        Args:
            subject: what is agreed on, for the message.
            facts: what must be the same on every rank, by the name that a person knows it by; a rank that refuses has none.
            refusal: why this rank cannot go on.
        Raises:
            Refused: on every rank, if one of them refuses, if facts differ, or if a rank does not come.
        """
        if self.store is None:
            if refusal:
                raise Refused(refusal.message, refusal.code, True)
            return
        self.subject = subject
        if refusal:
            self.store.set(f"{subject}/refused", str(self.rank))
        report = {
            "host": socket.gethostname(),
            "facts": dict(facts),
            "refusal": refusal and [refusal.message, refusal.code],
        }
        if self.rank == 0:
            self.store.set(f"{subject}/0", json.dumps(report))
            outcome = self._judge(subject, report)
            self.store.set(f"{subject}/outcome", json.dumps(outcome))
        else:
            first = json.loads(self._read(f"{subject}/0", subject, 0, time.monotonic() + self.patience))
            pairs = {
                name: (first["facts"].get(name, ABSENT), facts.get(name, ABSENT))
                for name in {**first["facts"], **facts}
            }
            differences = {name: (a[1], b[1]) for name, (a, b) in pairs.items() if a[0] != b[0]}
            answer = {"host": report["host"], "differing": differences, "refusal": report["refusal"]}
            self.store.set(f"{subject}/{self.rank}", json.dumps(answer))
            # Rank 0 waits for others meanwhile, and says so if it waits in vain.
            outcome = json.loads(self._read(f"{subject}/outcome", subject, 0, time.monotonic() + 2 * self.patience))
        if outcome is not None:
            raise Refused(*outcome, self.rank == 0)

    def _judge(self, subject: str, report: dict[str, Any]) -> tuple[str, int] | None:
        end = time.monotonic() + self.patience
        reports = [
            report,
            *(json.loads(self._read(f"{subject}/{rank}", subject, rank, end)) for rank in range(1, self.size)),
        ]
        refusing = {rank: entry["refusal"] for rank, entry in enumerate(reports) if entry["refusal"]}
        if refusing:
            rank, (message, code) = next(iter(refusing.items()))
            if len(refusing) == self.size and len({text for text, _ in refusing.values()}) == 1:
                return message, code
            willing = next((r for r in range(self.size) if r not in refusing), None)
            remark = (
                "each for its own reason"
                if willing is None
                else f"rank {willing} on {reports[willing]['host']} does not"
            )
            count = f"{len(refusing)} of {self.size} ranks refuse{'s' * (len(refusing) == 1)}"
            return f"rank {rank} on {reports[rank]['host']}: {message}\n({count}, {remark})", code
        for rank, entry in enumerate(reports[1:], start=1):
            if entry["differing"]:
                names = sorted(entry["differing"])
                lines = [
                    f"\n  {name}: {entry['differing'][name][0]} on rank 0 ({report['host']}), "
                    f"{entry['differing'][name][1]} on rank {rank} ({entry['host']})"
                    for name in names[:MAX_NAMED]
                ]
                remainder = f"\n  and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
                return f"the ranks differ in {subject}; start all of them alike:{''.join(lines)}{remainder}", 1
        return None

    def _read(self, key: str, subject: str, rank: int, end: float) -> bytes:
        """A value that another rank sets until `end`."""
        try:
            while not self.store.check([key]):
                if self.store.check([END_KEY]):
                    raise self._ended()
                if time.monotonic() > end:
                    raise self.fail(f"rank {rank} did not come to {subject} in {self.patience:.0f} s; see its log", 1)
                time.sleep(0.05)
            value: bytes = self.store.get(key)
            return value
        except (dist.DistError, RuntimeError) as error:
            raise Refused(f"the ranks' store is gone: {str(error).splitlines()[0]}", 1, self.rank == 0) from None

    def fail(self, message: str, code: int) -> Refused:
        """Tell the others that this rank ends, and learn whether it is the first to say so: what the first says counts."""
        if self.store is None:
            return Refused(message, code, True)
        proposal = json.dumps({"rank": self.rank, "message": message, "code": code})
        try:
            ending = json.loads(self.store.compare_set(END_KEY, "", proposal))
        except (dist.DistError, RuntimeError):
            return Refused(message, code, True)
        return Refused(ending["message"], ending["code"], ending["rank"] == self.rank)

    def _ended(self) -> Refused:
        ending = json.loads(self.store.get(END_KEY))
        return Refused(ending["message"], ending["code"], False)

    def watch(self, subject: str, end: Callable[[str, int], None]) -> None:
        """From now on, call `end(message, code)` in a thread once another rank has failed, or has refused what this one
        is still at work on: it may be waiting for that rank.

        Where torchrun itself is gone, nobody would pass a signal on any more: the run stops as at one.

        Args:
            subject: what is to be agreed on next.
        """
        if self.store is None:
            return
        self.watching, store = threading.Event(), self.store.clone()  # a store answers one thread at a time

        def look(is_over: threading.Event) -> None:
            seconds_refused = 0.0
            while not is_over.wait(POLL):
                try:
                    if store.check([END_KEY]):
                        ending = json.loads(store.get(END_KEY))
                        if ending["rank"] != self.rank:
                            end(ending["message"], ending["code"])
                        return
                    if self.subject != subject and store.check([f"{subject}/refused"]):
                        seconds_refused += POLL
                        if seconds_refused > LATE:
                            end("another rank's refusal", 1)
                            return
                except (dist.DistError, RuntimeError):
                    os.kill(os.getpid(), signal.SIGTERM)
                    return

        threading.Thread(target=look, args=(self.watching,), daemon=True).start()

    def rest(self) -> None:
        """Stop watching."""
        if self.watching:
            self.watching.set()


def agreeing_peers(subject: str, facts: Mapping[str, Fact], refusal: str) -> Peers:
    """The ranks that were started with this one, once they agree.

    Args:
        refusal: why this rank cannot go on; "" where it can.
    Raises:
        Refused: as `Peers.agree`, or a signal came meanwhile.
    """
    peers = Peers()
    try:
        peers = Peers.join()
        peers.agree(subject, facts, Refusal(refusal) if refusal else None)
    except Stopped as stop:
        raise peers.fail(f"stopped by {stop}, before the first step", STOPPED) from None
    return peers


def code_facts() -> dict[str, Fact]:
    """The code that computes: versions, and the hash of our own files, which a checkout changes without a version."""
    facts = {"Python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            facts[f"version of {name}"] = version(name)
        except PackageNotFoundError:
            facts[f"version of {name}"] = "none"
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    facts["medvlp's own files"] = digest.hexdigest()[:12]
    return {name: (value, value) for name, value in facts.items()}


def plain(values: Any, name: str = "") -> dict[str, str]:
    """A nested configuration as `a.b.c` → value."""
    if isinstance(values, dict) and values:
        return {
            key: value
            for part in values
            for key, value in plain(values[part], f"{name}.{part}" if name else str(part)).items()
        }
    return {name: str(values)}


def lost_rank(error: BaseException) -> bool:
    """Whether an error is what a rank sees of another one's end."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text
        for sign in ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")
    )
