"""CPU time of an epoch with a frozen image tower: its features from a folder against running it at every step (LiT).

Both read the same shards of ROCOv2 in one process and train the same weights: reading, tokens, towers, loss, backward and
optimizer are counted. The embeddings are compared first, on the images as evaluation sees them; the running tower is then given
random crops, as it always is. How much is saved depends on how heavy the image tower is beside the text tower that learns.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import cpu_seconds, interleaved, report

BATCH, ROUNDS = 20, 3
VIT = ["model.vision.timm=vit_base_patch16_224", "model.vision.weights="]
LIT = ["optim.parts.text.freeze=false", "optim.parts.vision_head.freeze=false"]
CASES = {
    "ViT-B/16, two heads learn": (VIT, 2),
    "ViT-B/16, MiniLM learns": ([*VIT, *LIT], 2),
    "EfficientNet-Lite0, two heads learn (clip_rocov2)": ([], 4),
}
"""Towers → overrides, and steps of an epoch."""


def main() -> int:
    warnings.filterwarnings("ignore")
    import torch

    from data_prep.pipeline import prepare

    source = Path(os.environ.get("MEDVLP_TEST_DATA", "../shared/data")) / "rocov2"
    if not source.is_dir():
        print(f"needs ROCOv2 files: {source} does not exist; set MEDVLP_TEST_DATA", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    rows, values, ratios = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        prepare("rocov2", str(source), folder, workers=2)
        for number, (name, (overrides, steps)) in enumerate(CASES.items()):
            words = [f"data.sources.rocov2.path={folder}/valid", f"data.global_batch_size={BATCH}", *overrides]
            running = Epoch(words, steps)
            start = cpu_seconds()
            cached = Epoch([*words, f"objective.feature_cache={folder}/features-{number}"], steps)
            first = cpu_seconds() - start
            difference = embedding_difference(running, cached)
            assert difference < 1e-5, f"{name}: embeddings differ by {difference}"
            seconds = interleaved({"running": running.run, "cached": cached.run}, ROUNDS)
            ratios[name] = seconds["running"] / seconds["cached"]
            pairs = steps * BATCH
            rows.append(
                (
                    name,
                    f"{1000 * seconds['running'] / pairs:.1f} ms a pair with the tower, {1000 * seconds['cached'] / pairs:.1f} "
                    f"from the folder: {ratios[name]:.1f}x less; writing it once {first:.1f} s; embeddings {difference:.1e}",
                )
            )
            values[name] = {**seconds, "pairs": pairs, "writing": first}
    heaviest = next(iter(CASES))
    report("lit_cache", rows, {"ratio": ratios[heaviest], "ratios": ratios, "cases": values})
    return 0


class Epoch:
    """Steps of a training, again and again.

    Args:
        words: overrides of clip_rocov2.
        steps: in one epoch.
    """

    def __init__(self, words: list[str], steps: int) -> None:
        from medvlp.builders import build_data, build_objective
        from medvlp.config import compose

        config = compose("train", ["recipes=clip_rocov2", "tasks=[]", "data.workers=0", *words])
        self.objective = build_objective(config)
        self.data, self.steps = build_data(config, self.objective.pipeline), steps
        self.data.prepare_data()
        self.data.setup()
        self.module = self.objective.module
        self.optimizer = self.module.configure_optimizers()["optimizer"]

    def batches(self) -> list[Callable[[], object]]:
        """What reads each batch."""
        from medvlp.data.plan import RankSchedule

        requests = list(RankSchedule(self.data.plan, BATCH).requests(0, self.steps))
        return [
            lambda rows=rows: self.data.pipeline.collate([self.data.samples[request] for request in rows])
            for rows in requests
        ]

    def run(self) -> None:
        """One epoch."""
        self.module.train()
        for read in self.batches():
            self.optimizer.zero_grad()
            self.module.loss(read())[0].backward()
            self.optimizer.step()


def embedding_difference(running: Epoch, cached: Epoch) -> float:
    """Largest between a batch's embeddings from the folder and those of the tower, before anything is learned."""
    import torch

    from medvlp.data.images.decode import decode_image

    cached.module.model.load_state_dict(running.module.model.state_dict())
    batch = cached.batches()[0]()
    dataset, clip = running.data.samples.sources[0][1], running.objective.evaluated("now").encoder.clip
    rows = {dataset.key(row): row for row in range(len(dataset))}
    images = [next(iter(dataset.read(rows[key]).images.values())) for key in batch.keys]
    pixels = torch.stack([clip.transform(decode_image(image, 10**9)) for image in images])
    running.module.eval()
    with torch.no_grad():
        expected = torch.nn.functional.normalize(clip.model.encode_image(pixels), dim=-1)
        return float((cached.module.encode(batch)["image_BD"] - expected).abs().max())


if __name__ == "__main__":
    sys.exit(main())
