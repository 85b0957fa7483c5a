"""The equality check of an exported folder: a new process with stock transformers computes the same as the trained model.

L: tokens of a prompt; V: vocabulary.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medvlp.data.chat.encoder import ChatEncoder, Encoded
from medvlp.data.chat.packing import CollateConversations
from medvlp.errors import UserError
from medvlp.export.transformers import end_tokens
from medvlp.models.llava.generate import BatchedGenerator
from medvlp.models.llava.model import Assistant, projected_features
from medvlp.models.llava.packed import last_hidden
from medvlp.shards import BadSample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

TOLERANCE = 1e-4
"""Largest difference allowed between a logit of ours and of the reloaded folder, computed in single precision."""
RELATIVE_TOLERANCE = 1e-5
"""The same, as a share of the largest logit, where that is more: single precision rounds large logits, and merged adapters, by a
few millionths of them."""
NEW_TOKENS = 24
"""Length of the greedy answers that must be identical."""

QUESTIONS: dict[str, list[Turn]] = {
    "one question": [Turn("user", "<image>\nWhat does the image show?")],
    "a second question": [
        Turn("user", "<image>\nIs the heart enlarged?"),
        Turn("assistant", "No."),
        Turn("user", "Where is the lesion?"),
    ],
    "two images": [Turn("user", "<image>\n<image>\nWhat has changed?")],
    "no image": [Turn("user", "What is a pneumothorax?")],
}


@dataclass
class ProbeResult:
    """What the model makes of one of the questions.

    ids_L: of the prompt; logits_LV: float32, after each of its tokens; text: NEW_TOKENS greedy tokens at most.
    """

    ids_L: Tensor
    logits_LV: Tensor
    text: str


@dataclass
class ExportCheck:
    """What the equality check found, over all questions.

    questions: their names; max_difference: of a logit, the largest; max_difference_default: the same where the folder's image
    processor is loaded as transformers does by default (it resizes with torchvision), and same_text_default: whether all
    answers are still identical there.
    """

    questions: list[str]
    max_difference: float
    max_difference_default: float
    same_text_default: bool


class ExportMismatch(UserError):
    """The folder is not the model; the message says in what."""


def probe_image(number: int, side: int = 150) -> Image.Image:
    """A generated picture with edges, slopes and colours, not square."""
    y, x = np.mgrid[0:side, 0 : side + 40]
    rings = 127 + 120 * np.sin(np.hypot(x - side / 2, y - side / 3) / (6 + 3 * number))
    pixels = np.stack([rings, 255 * x / x.max(), np.where((x // 16 + y // 16) % 2, 40, 210)], axis=-1)
    return Image.fromarray(np.roll(pixels, number, axis=-1).astype(np.uint8))


def probe_results(assistant: Assistant, encoder: ChatEncoder) -> dict[str, ProbeResult]:
    """The questions, as the trained model answers them: tokens and logits as in training, answers as in evaluation.

    Questions that the template refuses (a second one, where it knows but one) or that are too long are skipped.
    """
    generator = BatchedGenerator(assistant, end_tokens(assistant, encoder))
    results: dict[str, ProbeResult] = {}
    for name, turns in QUESTIONS.items():
        images = sum(turn.text.count(IMAGE_TOKEN) for turn in turns)
        try:
            ids_L = encoder.prompt(turns, images)
        except BadSample:
            continue
        if len(ids_L) + NEW_TOKENS > generator.longest:
            continue
        pictures = [probe_image(number) for number in range(images)]
        pixels = assistant.processor(pictures, return_tensors="pt")["pixel_values"] if images else torch.empty(0)
        with torch.no_grad():
            logits_LV = prompt_logits(assistant.model, torch.from_numpy(ids_L), pixels if images else None)
        (text,) = generator.generate([(ids_L, pixels)], NEW_TOKENS)
        results[name] = ProbeResult(torch.from_numpy(ids_L), logits_LV.float(), text)
    return results


def prompt_logits(model: Any, ids_L: Tensor, pixels_N3SS: Tensor | None) -> Tensor:
    """(L, V): logits after each token of a prompt, computed as training computes them."""
    features = None if pixels_N3SS is None else projected_features(model, pixels_N3SS)
    prompt = Encoded(ids_L.numpy(), np.zeros(len(ids_L), bool))
    item = {"key": "", "position": 0, "conversations": [prompt], "images": torch.empty(0)}
    collate = CollateConversations(0, model.config.image_token_id, 0, tree=False, weighting="token")
    batch = collate([{"items": [item], "bad": [], "total": 1.0}])
    return model.lm_head(last_hidden(model, batch, features)[0])


def check_folder(folder: Path, scratch: Path, trained: dict[str, ProbeResult]) -> ExportCheck:
    """Open the folder in a new process with stock transformers, ask the same questions, compare.

    Args:
        scratch: a folder for the questions and the answers.
        trained: of `probe_results`.
    Raises:
        ExportMismatch: the folder cannot be opened, or as `compare`.
    """
    return compare(trained, reloaded_results(folder, scratch, list(trained)))


def compare(trained: dict[str, ProbeResult], reloaded: dict[str, dict[str, Any]]) -> ExportCheck:
    """Compare the reloaded folder's results with the trained model's.

    Raises:
        ExportMismatch: tokens, logits or answers differ.
    """
    differences, differences_default = [], []
    for name, expected in trained.items():
        exact, by_default = reloaded["pil"][name], reloaded["default"][name]
        for tokenised in ("ids", "ids_rendered"):
            if not torch.equal(exact[tokenised], expected.ids_L):
                raise ExportMismatch(
                    f"{name}: the folder's processor makes other tokens of it: "
                    f"{first_difference(expected.ids_L, exact[tokenised])}"
                )
        differences.append(float((exact["logits"] - expected.logits_LV).abs().max()))
        largest = float(expected.logits_LV.abs().max())
        allowed = max(TOLERANCE, RELATIVE_TOLERANCE * largest)
        if not differences[-1] <= allowed:
            raise ExportMismatch(
                f"{name}: logits differ by up to {differences[-1]:.1e}, allowed are {allowed:.1e} (largest logit: {largest:.1f})"
            )
        if exact["text"] != expected.text:
            raise ExportMismatch(f"{name}: the answer is {exact['text']!r}, the trained model's {expected.text!r}")
        differences_default.append(float((by_default["logits"] - expected.logits_LV).abs().max()))
    same = all(reloaded["default"][name]["text"] == expected.text for name, expected in trained.items())
    return ExportCheck(list(trained), max(differences), max(differences_default), same)


def first_difference(expected_L: Tensor, ids_L: Tensor) -> str:
    """Where a prompt's tokens differ from those expected, for a message."""
    if len(expected_L) != len(ids_L):
        return f"{len(ids_L)} instead of {len(expected_L)} tokens, {ids_L.tolist()[:12]}... for {expected_L.tolist()[:12]}..."
    index = int(torch.nonzero(expected_L != ids_L)[0])
    return f"token {index} is {int(ids_L[index])} instead of {int(expected_L[index])}"


def reloaded_results(folder: Path, scratch: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """{"pil" | "default": {question: {"ids", "ids_rendered", "logits", "text"}}} of the reloaded folder."""
    for number in range(2):
        probe_image(number).save(scratch / f"{number}.png")
    questions = {name: messages(QUESTIONS[name], scratch) for name in names}
    (scratch / "questions.json").write_text(
        json.dumps({"questions": questions, "tokens": NEW_TOKENS}), encoding="utf-8"
    )
    answers: dict[str, dict[str, Any]] = run_offline(
        "transformers", RELOAD, folder, scratch, TRANSFORMERS_VERBOSITY="error"
    )
    return answers


def run_offline(
    library: str, script: str, folder: Path, scratch: Path, cwd: str | None = None, **environment: str
) -> Any:
    """What a script leaves in answers.pt: run offline in a new process, with an exported folder and that of the questions.

    Raises:
        ExportMismatch: it fails, with the last line of what it says.
    """
    run_script(library, script, folder, scratch, cwd, **environment)
    return torch.load(scratch / "answers.pt", weights_only=True)


def run_script(
    library: str, script: str, folder: Path, scratch: Path, cwd: str | None = None, **environment: str
) -> None:
    """Run a script offline in a new process, with the paths of an exported folder and of the questions.

    Raises:
        ExportMismatch: it fails, with the last line of what it says.
    """
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, str(folder.resolve()), str(scratch.resolve())],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        raise ExportMismatch(f"stock {library} could not open the exported folder: {reason}")


def messages(turns: list[Turn], scratch: Path) -> list[dict[str, Any]]:
    """Turns as messages of transformers: contents are lists of parts, images by path and first."""
    result = []
    for turn in turns:
        count = turn.text.count(IMAGE_TOKEN)
        images = [{"type": "image", "path": str((scratch / f"{n}.png").resolve())} for n in range(count)]
        text = turn.text.replace(f"{IMAGE_TOKEN}\n", "")
        result.append({"role": turn.role, "content": [*images, {"type": "text", "text": text}]})
    return result


RELOAD = """
import json, sys
from pathlib import Path
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, scratch = map(Path, sys.argv[1:])
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False).eval()
if (folder / "adapter").is_dir():
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, folder / "adapter").eval()
probe = json.loads((scratch / "questions.json").read_text("utf-8"))
answers = {}
for backend in ("pil", "default"):
    options = {} if backend == "default" else {"backend": backend}
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, **options)
    answers[backend] = {}
    for name, messages in probe["questions"].items():
        paths = [part["path"] for turn in messages for part in turn["content"] if part["type"] == "image"]
        images = [Image.open(path) for path in paths] or None
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
        from_text = processor(text=rendered, images=images, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0]
            tokens = model.generate(**inputs, max_new_tokens=probe["tokens"])[0, inputs["input_ids"].shape[1]:]
        answers[backend][name] = {
            "ids": inputs["input_ids"][0],
            "ids_rendered": from_text["input_ids"][0],
            "logits": logits.float(),
            "text": processor.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False),
        }
assert not any(name.split(".")[0] == "medvlp" for name in sys.modules)
torch.save(answers, scratch / "answers.pt")
"""
