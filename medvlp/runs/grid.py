"""A grid of runs: every cell in a process of its own, one after the other."""

import subprocess
import sys
from collections.abc import Sequence

from medvlp import process
from medvlp.process import STOPPED
from medvlp.terminal import printable


def run_grid(cells: Sequence[Sequence[str]]) -> int:
    """Train every cell, given as overrides, and write one table of them; returns the first exit code that is not 0, if any."""
    codes = []
    for number, cell in enumerate(cells, start=1):
        print(f"cell {number}/{len(cells)}: {' '.join(cell)}", flush=True)
        codes.append(run_cell(cell))
        if codes[-1] == STOPPED:
            break
    failed = [number for number, code in enumerate(codes, start=1) if code]
    print(
        f"{len(codes) - len(failed)} of {len(cells)} cells done" + (f"; failed or stopped: {failed}" if failed else "")
    )
    from medvlp.runs.grid_table import write_grid_table

    print("\n".join(map(printable, write_grid_table(cells))), flush=True)
    return next((code for code in codes if code), 0)


def run_cell(overrides: Sequence[str]) -> int:
    """One cell of a grid; a signal that comes meanwhile is the cell's too, and is waited for: it saves first."""
    cell = subprocess.Popen([sys.executable, "-m", "medvlp.train", *overrides])
    try:
        return cell.wait()
    except process.Stopped:
        with process.interruption.unhurried():
            cell.terminate()
            cell.wait()
        return STOPPED
