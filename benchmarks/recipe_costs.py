"""The table of docs/recipes.md: what `medvlp plan` prints for every published recipe at 8 and 64 GPUs.

python -m benchmarks.recipe_costs
"""

import contextlib
import io
import logging
import re
import sys
import warnings

from medvlp.verbs.plan import main as plan

SAMPLES = {
    "clip_biomedclip": 15_282_336,  # PMC-15M (Zhang 2023)
    "clip_bmc": 24_076_288,  # BIOMEDICA (Lozano 2025)
    "clip_dermlip": 1_029_761,  # Derm1M (Yan 2025)
    "clip_lit": 1_650_000,  # PMC-OA (Lin 2023)
    "clip_medpix": 2_050,  # MedPix 2.0 (Siragusa 2024)
    "clip_open_pmc": 2_200_000,  # Open-PMC (Baghbanzadeh 2025)
    "clip_pmc_clip": 1_650_000,  # PMC-OA (Lin 2023)
    "clip_pubmedclip": 81_825,  # ROCO (Pelka 2018)
    "clip_quiltnet": 1_017_708,  # Quilt-1M (Ikezogwo 2023)
    "clip_siglip": 1_650_000,  # PMC-OA (Lin 2023)
    "clip_unimed": 5_300_000,  # UniMed (Khattak 2024)
}
"""Recipe → pairs of an epoch, as its data's authors count them."""
GPUS = (8, 64)
HEADER = "| recipe | pairs of an epoch | 8 GPUs: GiB | ms a step | pairs/s | hours | 64 GPUs: GiB | ms a step | pairs/s | hours |"
PATTERNS = (
    r"memory of a GPU +([\d.]+) GiB",
    r"a step +([\d.]+) ms",
    r" ms, ([\d,]+) pairs/s",
    r" steps: ([\d,.]+) hours",
)


def arguments(recipe: str, gpus: int) -> list[str]:
    """Of `medvlp plan`; the loader keeps up."""
    return [f"recipes={recipe}", f"gpus={gpus}", f"samples={SAMPLES[recipe]}", "images_per_worker=10000"]


def figures(recipe: str, gpus: int) -> list[str]:
    """GiB, milliseconds, pairs a second and hours, as printed."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert plan(arguments(recipe, gpus)) == 0
    matches = [re.search(pattern, output.getvalue()) for pattern in PATTERNS]
    values = [match[1] if match else "?" for match in matches]
    return [f"{float(values[0]):.1f}", f"{float(values[1]):,.0f}", *values[2:]]


def row_of(recipe: str) -> str:
    """A line of the table."""
    cells = [cell for gpus in GPUS for cell in figures(recipe, gpus)]
    return f"| `{recipe}` | {SAMPLES[recipe]:,} | {' | '.join(cells)} |"


def main() -> int:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    print(HEADER)
    print(re.sub(r"[^|]+", "---", HEADER))
    for recipe in SAMPLES:
        print(row_of(recipe), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
