"""Retries: which failures pass, and how long to wait before the next request."""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

TRANSIENT = (408, 409, 425, 429)
"""Statuses after which the same request may succeed, next to 500 and above."""
SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
"""Codes of a 429 that no waiting ends."""


@dataclass(frozen=True)
class Backoff:
    """How a client waits: what the server asks for (Retry-After), and a time of its own.

    retries: of one question, at most. first_s: the wait before the first of them, doubled for each that follows, and up to
    half as much longer by chance, so that threads do not return all at once. longest_s: a server that asks for more is
    believed, and the question given up.
    """

    retries: int = 6
    first_s: float = 1.0
    longest_s: float = 600.0

    def wait_s(self, retry: int) -> float:
        """Seconds before a retry, counted from 0."""
        return float(min(self.first_s * 2**retry * random.uniform(1.0, 1.5), self.longest_s))


def is_transient(status: int, code: str) -> bool:
    """Whether a request with this status may succeed later."""
    return (status in TRANSIENT and code not in SPENT) or status >= 500


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (`Retry-After` as seconds or a date, `retry-after-ms`); None where it does not."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(wait_s):  # nan is no time at which a gate opens
            return max(wait_s, 0.0)
    try:
        return max(parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time(), 0.0)
    except (KeyError, ValueError, TypeError):
        return None


class Gate:
    """A pause that all threads of a client share: where a server asks one of them to wait, it means all of them.

    Args:
        tell: told a line when a wait begins that a person would notice.
    """

    LONG_S, BETWEEN_S = 3.0, 15.0
    """A wait that is told; how far apart such lines are at least."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._opens_at, self._silent_until = tell, 0.0, 0.0
        self._lock = threading.Lock()

    def hold(self, seconds: float) -> None:
        """Let nobody pass for so long."""
        with self._lock:
            self._opens_at = max(self._opens_at, time.monotonic() + seconds)

    def tell(self, reason: str, seconds: float) -> None:
        """Say why the next request has to wait, unless it is short or another line was told a moment ago."""
        with self._lock:
            if seconds < self.LONG_S or time.monotonic() < self._silent_until:
                return
            self._silent_until = time.monotonic() + self.BETWEEN_S
        self._tell(f"{reason}; next try in {seconds:.0f} s")

    def passes(self, stop: threading.Event, due: float = 0.0) -> bool:
        """Wait until `due` (of time.monotonic) and until the gate opens; false as soon as `stop` is set."""
        while not stop.is_set():
            remaining_s = max(due, self._opens_at) - time.monotonic()
            if remaining_s <= 0:
                return True
            stop.wait(remaining_s)
        return False
