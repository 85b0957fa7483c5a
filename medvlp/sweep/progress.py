"""Progress of a sweep: a line a cell as it ends, with the main metric, the cells done and the time left."""

import time
from collections.abc import Sequence

from medvlp.distributed import rank
from medvlp.jsonl import Row
from medvlp.sweep.cells import summary
from medvlp.sweep.plan import Cell


class Progress:
    """Lines of rank 0.

    total: cells of this command. finished: those that need nothing more. failed: those that cannot be measured.
    """

    def __init__(self, total: int, finished: int, failed: int) -> None:
        self.total, self.finished, self.failed = total, finished, failed
        self.measured = 0
        self.start = time.monotonic()
        if total > 1 and (finished or failed):
            self._say(
                f"{finished} of {total} cells were finished before" + (f", {failed} cannot be measured" * bool(failed))
            )

    def begin(self, cell: Cell) -> None:
        """A cell is being measured."""
        self._say(f"{cell.model.name}: {cell.task.name}" + (" (judged)" if cell.answering else ""))

    def finish(self, cell: Cell, content: Row | None) -> None:
        """A cell has ended well."""
        self.finished += 1
        self.measured += 1
        if content is not None:
            self._say(f"  {summary(content)}  {self._position()}")

    def reuse(self, cell: Cell, content: Row) -> None:
        """A cell is finished because an equal model's is."""
        self.finished += 1
        if content:
            name = content["checkpoint"]
            self._say(
                f"{cell.model.name}: {cell.task.name}\n  the same as {name}: {summary(content)}  {self._position()}"
            )

    def fail(self, cells: Sequence[Cell]) -> None:
        """Cells have failed."""
        self.failed += len(cells)
        self.measured += len(cells)
        self._say(f"  failed: {', '.join(cell.task.name for cell in cells)}  {self._position()}")

    def _position(self) -> str:
        remaining = self.total - self.finished - self.failed
        text = f"[{self.finished}/{self.total} cells" + (f", {self.failed} failed" * bool(self.failed))
        if remaining and self.measured:
            seconds = round((time.monotonic() - self.start) / self.measured * remaining)
            text += f", {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
        return text + "]"

    def _say(self, line: str) -> None:
        if rank() == 0:
            print(line, flush=True)
