"""Is an exported folder the model that was trained? Asked in a new process that knows stock transformers only.

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
class Answered:
    """What the model makes of one of the questions.

    ids: (L,) of the prompt; logits_LV: float32, after each of its tokens; text: NEW_TOKENS greedy tokens at most.
    """

    ids: Tensor
    logits_LV: Tensor
    text: str


@dataclass
class Agreement:
    """What the comparison found.

    questions: their names; difference: of a logit, the largest; resized_difference: the same where the folder's image
    processor is loaded as transformers does by default, and same_text: whether answers are still identical there.
    """

    questions: list[str]
    difference: float
    resized_difference: float
    same_text: bool


class Disagreement(UserError):
    """The folder is not the model; the message says in what."""


def probe_image(number: int, side: int = 150) -> Image.Image:
    """A generated picture with edges, slopes and colours, not square."""
    y, x = np.mgrid[0:side, 0 : side + 40]
    rings = 127 + 120 * np.sin(np.hypot(x - side / 2, y - side / 3) / (6 + 3 * number))
    pixels = np.stack([rings, 255 * x / x.max(), np.where((x // 16 + y // 16) % 2, 40, 210)], axis=-1)
    return Image.fromarray(np.roll(pixels, number, axis=-1).astype(np.uint8))


def answered(assistant: Assistant, encoder: ChatEncoder) -> dict[str, Answered]:
    """The questions, as the trained model answers them: tokens and logits as in training, answers as in evaluation.

    Questions that the template refuses (a second one, where it knows but one) or that are too long are left out.
    """
    generator = BatchedGenerator(assistant, end_tokens(assistant, encoder))
    found: dict[str, Answered] = {}
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
        found[name] = Answered(torch.from_numpy(ids_L), logits_LV.float(), text)
    return found


def prompt_logits(model: Any, ids_L: Tensor, pixels_N3SS: Tensor | None) -> Tensor:
    """(L, V): logits after each token of a prompt, computed as training computes them."""
    features = None if pixels_N3SS is None else projected_features(model, pixels_N3SS)
    prompt = Encoded(ids_L.numpy(), np.zeros(len(ids_L), bool))
    item = {"key": "", "position": 0, "conversations": [prompt], "images": torch.empty(0)}
    collate = CollateConversations(0, model.config.image_token_id, 0, tree=False, weighting="token")
    batch = collate([{"items": [item], "bad": [], "total": 1.0}])
    return model.lm_head(last_hidden(model, batch, features)[0])


def reload_and_compare(folder: Path, aside: Path, ours: dict[str, Answered]) -> Agreement:
    """Open the folder in a new process with stock transformers, ask the same, compare.

    Args:
        aside: a folder for the questions and the answers.
        ours: of `answered`.
    Raises:
        Disagreement: the folder cannot be opened, or as `compare`.
    """
    return compare(ours, answered_elsewhere(folder, aside, list(ours)))


def compare(ours: dict[str, Answered], theirs: dict[str, dict[str, Any]]) -> Agreement:
    """Hold the reloaded folder's answers to ours.

    Raises:
        Disagreement: tokens, logits or answers differ.
    """
    differences, default = [], []
    for name, own in ours.items():
        exact, by_default = theirs["pil"][name], theirs["default"][name]
        for way in ("ids", "ids_rendered"):
            if not torch.equal(exact[way], own.ids):
                raise Disagreement(
                    f"{name}: the folder's processor makes other tokens of it: {diff_of(own.ids, exact[way])}"
                )
        differences.append(float((exact["logits"] - own.logits_LV).abs().max()))
        if not differences[-1] <= TOLERANCE:
            raise Disagreement(
                f"{name}: logits differ by up to {differences[-1]:.1e}, allowed are {TOLERANCE:.0e} (largest logit: "
                f"{float(own.logits_LV.abs().max()):.1f})"
            )
        if exact["text"] != own.text:
            raise Disagreement(f"{name}: the answer is {exact['text']!r}, the trained model's {own.text!r}")
        default.append(float((by_default["logits"] - own.logits_LV).abs().max()))
    same = all(theirs["default"][name]["text"] == own.text for name, own in ours.items())
    return Agreement(list(ours), max(differences), max(default), same)


def diff_of(ours_L: Tensor, theirs_L: Tensor) -> str:
    """Where two prompts part."""
    if len(ours_L) != len(theirs_L):
        return f"{len(theirs_L)} instead of {len(ours_L)} tokens, {theirs_L.tolist()[:12]}... for {ours_L.tolist()[:12]}..."
    place = int(torch.nonzero(ours_L != theirs_L)[0])
    return f"token {place} is {int(theirs_L[place])} instead of {int(ours_L[place])}"


def answered_elsewhere(folder: Path, aside: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """{"pil" | "default": {question: {"ids", "ids_rendered", "logits", "text"}}} of the reloaded folder."""
    for number in range(2):
        probe_image(number).save(aside / f"{number}.png")
    asked = {name: messages(QUESTIONS[name], aside) for name in names}
    (aside / "questions.json").write_text(json.dumps({"asked": asked, "tokens": NEW_TOKENS}), encoding="utf-8")
    answers: dict[str, dict[str, Any]] = reopened("transformers", RELOAD, folder, aside, TRANSFORMERS_VERBOSITY="error")
    return answers


def reopened(library: str, script: str, folder: Path, aside: Path, cwd: str | None = None, **environment: str) -> Any:
    """What a script leaves in answers.pt: run offline in a new process, with an exported folder and that of the questions.

    Raises:
        Disagreement: it fails, with the last line of what it says.
    """
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, str(folder.resolve()), str(aside.resolve())],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
        raise Disagreement(f"stock {library} could not open the exported folder: {reason}")
    return torch.load(aside / "answers.pt", weights_only=True)


def messages(turns: list[Turn], aside: Path) -> list[dict[str, Any]]:
    """Turns as the hub's tools write them: lists of parts, images by path, in the first place."""
    made = []
    for turn in turns:
        count = turn.text.count(IMAGE_TOKEN)
        images = [{"type": "image", "path": str((aside / f"{n}.png").resolve())} for n in range(count)]
        text = turn.text.replace(f"{IMAGE_TOKEN}\n", "")
        made.append({"role": turn.role, "content": [*images, {"type": "text", "text": text}]})
    return made


RELOAD = """
import json, sys
from pathlib import Path
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, aside = map(Path, sys.argv[1:])
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=False).eval()
if (folder / "adapter").is_dir():
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, folder / "adapter").eval()
given = json.loads((aside / "questions.json").read_text("utf-8"))
answers = {}
for backend in ("pil", "default"):
    chosen = {} if backend == "default" else {"backend": backend}
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, **chosen)
    answers[backend] = {}
    for name, messages in given["asked"].items():
        paths = [part["path"] for turn in messages for part in turn["content"] if part["type"] == "image"]
        images = [Image.open(path) for path in paths] or None
        inputs = processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        rendered = processor.apply_chat_template(messages, add_generation_prompt=True)
        again = processor(text=rendered, images=images, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[0]
            made = model.generate(**inputs, max_new_tokens=given["tokens"])[0, inputs["input_ids"].shape[1]:]
        answers[backend][name] = {
            "ids": inputs["input_ids"][0],
            "ids_rendered": again["input_ids"][0],
            "logits": logits.float(),
            "text": processor.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False),
        }
assert not any(name.split(".")[0] == "medvlp" for name in sys.modules)
torch.save(answers, aside / "answers.pt")
"""
