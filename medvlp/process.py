"""Endings of a command: after a signal or an error, with an exit code, and with no process left behind.

Everything here is about this one process, so its state is the module's own. Nothing heavy is imported.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from medvlp.errors import Fault, UserError
from medvlp.terminal import printable

USER_ERROR, USAGE, STOPPED, FAULT = 1, 2, 3, 70
"""Exit codes: the user's input is wrong; arguments that the verb does not take; stopped by a signal; a fault of ours."""
GRACE = 20.0
"""Seconds that a process has to end in once it was told to; torchrun kills after 30."""
IMPATIENCE = 1.0
"""Seconds after which another SIGINT is a person's second Ctrl-C, and no longer the first one's echo from a launcher."""
WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
SYSTEM_KILLS: dict[int, str] = {
    signal.SIGKILL: "a loader worker was ended by the system (SIGKILL). Most likely the machine ran out of memory (`dmesg` "
    "says so): use fewer workers (data.workers; workers in medvlp eval) or smaller batches, or give the job more memory",
    signal.SIGBUS: "a loader worker was ended by the system (SIGBUS). Most likely shared memory (/dev/shm) is full, of which "
    "containers have little: docker run --shm-size=16g, or no workers (data.workers=0; workers=0 in medvlp eval)",
}


class Stopped(BaseException):
    """The process was told to end. Not an Exception, as KeyboardInterrupt is none: no handler of errors may swallow it."""


class WorkerKilled(UserError):
    """The system ended a loader worker, for want of memory."""


class Interruption:
    """The first signal that tells this process to end, and what becomes of it.

    It is raised as Stopped in the main thread, or, while `deferred`, only noted in `reason`: what deferred it ends
    the work in an orderly way. A thread sees to it that the process ends in GRACE seconds even where the main thread
    waits in native code for something that never comes.
    """

    def __init__(self) -> None:
        self.reason, self.code = "", STOPPED
        self.deferred = self.is_raised = self.is_listening = self.from_thread = False
        self.due, self.saving = 0.0, 0
        self.at_the_end: Callable[[str], None] | None = None
        """Called with the reason before the process is ended by force."""

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take the signals. Nothing changes where they are taken already, or outside of the main thread."""
        if self.is_listening or threading.current_thread() is not threading.main_thread():
            yield
            return
        self.__init__()  # type: ignore[misc]
        self.is_listening, is_over = True, threading.Event()
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        threading.Thread(target=self._watch, args=(read_end, is_over), daemon=True).start()
        wakeup_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, self._handle) for number in WATCHED}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup_fd)
            self.is_listening = False
            is_over.set()
            os.close(write_end)

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Inside of what deferred it: a block that may be left at any point.

        Raises:
            Stopped: a signal came before or comes now.
        """
        deferred, self.deferred = self.deferred, False
        try:
            if self.reason:
                raise Stopped(self.reason)
            yield
        finally:
            self.deferred = deferred

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """A save: it takes what it takes, and GRACE begins after it."""
        self.saving += 1
        try:
            yield
        finally:
            self.saving -= 1
            self.due = time.monotonic() + GRACE

    def end(self, reason: str, code: int) -> None:
        """Have the main thread leave what it does, whatever that is. For other threads."""
        if not self.reason:
            self.reason, self.code, self.deferred, self.from_thread = reason, code, False, True
            os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        moment = time.monotonic()
        if not self.reason:
            self.reason, self.first_at = signal.Signals(number).name, moment
        elif number == signal.SIGINT and moment - self.first_at > IMPATIENCE:
            self._end_by_force("at once")
        if not self.deferred and not self.is_raised:
            self.is_raised = True
            raise Stopped(self.reason)

    def _watch(self, read_end: int, is_over: threading.Event) -> None:
        while (numbers := os.read(read_end, 64)) and not set(numbers) & set(WATCHED):
            pass
        self.due = time.monotonic() + GRACE
        while numbers and not is_over.wait(0.1):
            if not self.saving and time.monotonic() > self.due:
                self._end_by_force(f"after {GRACE:.0f} s")
        os.close(read_end)

    def _end_by_force(self, when: str) -> None:
        with suppress(Exception):
            if self.at_the_end:
                self.at_the_end(self.reason)
        with suppress(Exception):
            print(f"medvlp: {self.reason}: ended by force {when}", file=sys.stderr, flush=True)
        _leave(self.code)


interruption = Interruption()

_children: set[Any] = set()


def adopt(children: set[Any]) -> None:
    """Processes (of `multiprocessing`) that must not outlive this one."""
    if not _children:
        atexit.register(end_children)  # now, so that it comes before multiprocessing's own, which waits for them
    _children.update(children)


def children() -> set[Any]:
    """Those that were adopted and not ended here."""
    return set(_children)


def end_children(children: set[Any] | None = None) -> None:
    """End processes that were adopted, all or some of them. They may ignore every other signal, so they are killed."""
    ending = set(_children) if children is None else children
    in_main = threading.current_thread() is threading.main_thread()
    handler = (
        signal.signal(signal.SIGCHLD, signal.SIG_DFL) if in_main else None
    )  # PyTorch's takes their end for a failure
    for child in ending:
        with suppress(ValueError, OSError):  # closed, or gone
            child.kill()
    for child in ending:
        with suppress(ValueError, OSError, AssertionError):
            child.join(1)
    if handler is not None:
        signal.signal(signal.SIGCHLD, handler)
    _children.difference_update(ending)


def killed(error: BaseException, workers: Iterable[Any] | None = None) -> WorkerKilled | None:
    """What an error comes from, if it comes from the end of a worker that the system killed.

    PyTorch raises "DataLoader worker is killed" wherever the main thread happens to be; a pipe that breaks first is told as
    "Connection reset".

    Args:
        workers: those that it may come from; None for all there are.
    """
    if "DataLoader worker" in str(error):
        return next(
            (WorkerKilled(SYSTEM_KILLS[n]) for n in SYSTEM_KILLS if f"signal: {signal.strsignal(n)}" in str(error)),
            None,
        ) or _died(workers)
    if isinstance(error, OSError | EOFError):
        return _died(workers, patience=1.0 if isinstance(error, ConnectionError | EOFError) else 0.0)
    return None


def _died(workers: Iterable[Any] | None, patience: float = 0.0) -> WorkerKilled | None:
    suspects = list(_children if workers is None else workers)
    end = time.monotonic() + patience  # a pipe breaks a moment before its process has an exit code
    while suspects:
        for worker in suspects:
            if (number := -(worker.exitcode or 0)) in SYSTEM_KILLS:
                return WorkerKilled(SYSTEM_KILLS[number])
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return None


@contextmanager
def holding_signals() -> Iterator[set[Any]]:
    """Start processes that no signal of a terminal or a launcher reaches: what is blocked here stays blocked in them.

    Yields a set that holds them after the block; they are adopted. Such signals go to the whole group, and a worker that
    ends of one takes its parent down in the middle of a save.
    """
    earlier = set(multiprocessing.active_children())
    started: set[Any] = set()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        yield started
    finally:
        started |= set(multiprocessing.active_children()) - earlier
        adopt(started)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run(verb: str, work: Callable[[], int]) -> int:
    """A command's work, and its exit code: what it returns, STOPPED after a signal, or what `tell` says of an error."""
    with interruption.listen():
        try:
            code = work()
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # who read our output has left, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return USER_ERROR
        except (Stopped, KeyboardInterrupt) as stop:
            print(f"medvlp {verb}: stopped by {str(stop) or 'SIGINT'}", file=sys.stderr, flush=True)
            return interruption.code
        except Exception as error:
            return tell(verb, error)
        finally:
            end_children()


def attempt(verb: str, work: Callable[[], int]) -> int:
    """One of several pieces of a command's work: what the user can fix in it is said, and leaves the others to be done."""
    try:
        return work()
    except BrokenPipeError:
        raise
    except (UserError, OSError) as error:
        return tell(verb, error)


def tell(verb: str, error: Exception) -> int:
    """Say on stderr what ended a command: one message where the user can fix it, a traceback otherwise.

    Returns: the exit code.
    """
    error = killed(error) or error
    code = exit_code(error)
    if code == FAULT and not isinstance(error, Fault):
        traceback.print_exception(error)
    else:
        message = "\n".join(map(printable, str(error).split("\n")))
        print(f"medvlp {verb}: {message}", file=sys.stderr, flush=True)
    return code


def exit_code(error: Exception) -> int:
    """USER_ERROR for what the user can fix (errors of the system on their paths included), FAULT for everything else."""
    return USER_ERROR if isinstance(error, UserError | OSError) else FAULT


def command(verb: str, work: Callable[[], int]) -> int:
    """As `run`, for the process that is this command and nothing else: after a failure it ends in GRACE seconds, whatever
    threads and libraries still wait for."""
    code = run(verb, work)
    if code:
        for number in WATCHED:  # a launcher that hears of the failure ends everything; the code is this command's own
            signal.signal(number, signal.SIG_IGN)
        timer = threading.Timer(GRACE, _leave, [code])
        timer.daemon = True
        timer.start()
    return code


def _leave(code: int) -> None:
    for child in list(_children):
        with suppress(Exception):
            child.kill()
    os._exit(code)
