"""A folder to sweep in: two CLIP models, an assistant, and tasks for either."""

from pathlib import Path

import torch

from medvlp.models.weights import weights_hash
from medvlp.training.checkpoints import save_checkpoint
from tests.assistants import assistant_words, tiny_clip_checkpoint, vqa_samples
from tests.datasets import pairs, write_split
from tests.runs import run_here

TASKS = {
    "kind": "kind: zero_shot\ngroups: [made]\ndata: {folder}/pairs\nlabel: kind\ntemplates: ['a finding of {{}}']\n"
    "classes: {{k0: [kind 0], k1: [kind 1], k2: [kind 2], k3: [kind 3]}}\n",
    "captions": "kind: retrieval\ndata: {folder}/pairs\n",
    "texts": "kind: text_retrieval\ndata: {folder}/pairs\nquery: caption\nlabel: kind\n",
    "composed": "kind: composed_retrieval\ndata: {folder}/pairs\nlabel: source\nchange: kind\n",
    "questions": "kind: vqa\ngroups: [made]\ndata: {folder}/asked\nmax_new_tokens: 4\n",
}
CLIPS = ["a.ckpt", "b.ckpt"]
ASSISTANT = "assistant.ckpt"


def make_world(folder: Path) -> Path:
    """Checkpoints a.ckpt, b.ckpt and assistant.ckpt, data and task files."""
    write_split(folder / "pairs/test", pairs(24))
    write_split(folder / "asked/test", vqa_samples(6))
    (folder / "configs/task").mkdir(parents=True)
    for name, text in TASKS.items():
        (folder / f"configs/task/{name}.yaml").write_text(f"name: {name}\n" + text.format(folder=folder))
    tiny_clip_checkpoint(folder / "clip").replace(folder / "a.ckpt")
    another(folder / "a.ckpt", folder / "b.ckpt", 1)
    assert run_here([*assistant_words(folder / "chat", samples=8), "run_name=chat", "trainer.max_steps=1"]) == 0
    (folder / "chat/runs/chat/checkpoints/last.ckpt").replace(folder / ASSISTANT)
    return folder


def another(checkpoint: Path, path: Path, seed: int) -> None:
    """A checkpoint with other weights."""
    content = torch.load(checkpoint, weights_only=True)
    generator = torch.Generator().manual_seed(seed)
    for tensor in content["state_dict"].values():
        if tensor.is_floating_point():
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
    content["medvlp"]["weights_sha256"] = weights_hash(content["state_dict"])
    save_checkpoint(content, path)


def words(output: str, models: list[str], tasks: list[str], *options: str) -> list[str]:
    """Arguments of `medvlp eval`."""
    return [
        f"checkpoints=[{','.join(models)}]",
        f"tasks=[{','.join(tasks)}]",
        f"output={output}",
        "resamples=50",
        "batch_size=8",
        "workers=0",
        "accelerator=cpu",
        *options,
    ]
