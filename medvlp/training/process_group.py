"""The ranks of an evaluation or of scores: a process group over gloo, on which results meet; models stay on each rank's own
device."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from medvlp.distributed import launched_world_size
from medvlp.errors import UserError
from medvlp.process import Stopped, interruption

PATIENCE = timedelta(hours=12)
"""A rank may wait for another one's part of the work; torchrun ends the others where one is gone."""


class RankLost(UserError):
    """Another rank ended without a word."""


@contextmanager
def process_group() -> Iterator[None]:
    """The ranks that torchrun started with this one; nothing where it started none.

    Raises:
        RankLost: another rank has ended, or cannot be reached.
    """
    if launched_world_size() == 1:
        yield
        return
    import torch.distributed as dist

    from medvlp.training.agreement import lost_rank
    from medvlp.training.ranks import end_process_group

    try:
        dist.init_process_group("gloo", timeout=PATIENCE)
        yield
    except Exception as error:
        if not lost_rank(error):
            raise
        if interruption.reason:  # all ranks were told to end, and another one was quicker
            raise Stopped(interruption.reason) from None
        raise RankLost(
            "another rank ended without a word; torchrun's lines below say which, and by which signal (-9, SIGKILL, is most "
            "often a machine that ran out of memory). Start the same command again: what is finished is kept"
        ) from None
    finally:
        end_process_group()
