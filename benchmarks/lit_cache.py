"""CPU time of an epoch with a frozen image tower: its features from a folder against running it at every step (LiT).

Both read the same shards of ROCOv2 in one process and train the same weights: reading, tokens, towers, loss, backward and
optimizer are counted. The embeddings are compared first, on the images as evaluation sees them; the running tower is then given
random crops, as it always is.

What is saved is the image tower's forward pass and the decoding of images. What is left is the text tower, three times (forward,
and both halves of backward) where it learns, its optimizer, and reading. So the ratio of operations, counted beside it, is
the most that a cache can give; it depends on both towers and on the length of texts. Two cases have the towers and the 16
tokens of models that LiT's authors published (LiT-B16B and LiT-L16S, vision_transformer's model card), from random weights.
"""

import gc
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import cpu_seconds, interleaved, report

ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "3"))
TEXT = ["optim.parts.text.freeze=false"]


@dataclass(frozen=True)
class Case:
    """Towers and what learns.

    words: overrides of clip_rocov2. bert: shape of a BERT that learns on 16 tokens; None is MiniLM on 128.
    batch, steps: of an epoch; larger batches share one update of the weights.
    """

    words: list[str]
    bert: dict[str, int] | None = None
    batch: int = 50
    steps: int = 1

    def overrides(self, folder: Path) -> list[str]:
        """Of the training. folder: where its BERT is written."""
        words = [*self.words, f"data.global_batch_size={self.batch}"]
        if self.bert is not None:
            from benchmarks.clip_towers import write_bert

            words += [f"model.text.huggingface={write_bert(folder, **self.bert)}", "model.text.pretrained=false"]
            words += ["model.text.context_length=16", "model.text.pooler=cls_last_hidden_state_pooler"]
        return words


B16 = ["model.vision.timm=vit_base_patch16_224", "model.vision.weights="]
L16 = ["model.vision.timm=vit_large_patch16_224", "model.vision.weights="]
SMALL = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
CASES = {
    "LiT-B16B: ViT-B/16, BERT-base learns, 16 tokens": Case([*B16, *TEXT], {}),
    "LiT-L16S: ViT-L/16, 12 layers of width 384 learn, 16 tokens": Case([*L16, *TEXT], SMALL, batch=25),
    "ViT-B/16, MiniLM learns, 128 tokens": Case([*B16, *TEXT]),
    "ViT-B/16, two heads learn": Case(B16),
    "EfficientNet-Lite0, two heads learn (clip_rocov2)": Case([], steps=2),
}


def main() -> int:
    warnings.filterwarnings("ignore")
    import torch

    from data_prep.pipeline import prepare
    from medvlp.environment import keep_freed_memory

    source = Path(os.environ.get("MEDVLP_TEST_DATA", "../shared/data")) / "rocov2"
    if not source.is_dir():
        print(f"needs ROCOv2 files: {source} does not exist; set MEDVLP_TEST_DATA", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    keep_freed_memory()  # as `medvlp train` does, for both
    rows, values, ratios = [], {}, {}
    with tempfile.TemporaryDirectory() as folder:
        prepare("rocov2", str(source), folder, workers=2)
        for number, (name, case) in enumerate(CASES.items()):
            words = [f"data.sources.rocov2.path={folder}/valid", *case.overrides(Path(folder) / f"bert-{number}")]
            running = Epoch(words, case)
            start = cpu_seconds()
            cached = Epoch([*words, f"objective.feature_cache={folder}/features-{number}"], case)
            first = cpu_seconds() - start
            difference = embedding_difference(running, cached)
            assert difference < 1e-5, f"{name}: embeddings differ by {difference}"
            seconds = interleaved({"running": running.run, "cached": cached.run}, ROUNDS)
            ratios[name] = seconds["running"] / seconds["cached"]
            pairs, operations = case.steps * case.batch, (running.operations(), cached.operations())
            bound = (
                f"{operations[0] / 1e9:.1f} and {operations[1] / 1e9:.2f} GFLOP: {operations[0] / operations[1]:.1f}x"
            )
            del running, cached
            gc.collect()
            rows.append(
                (
                    name,
                    f"{1000 * seconds['running'] / pairs:.1f} ms a pair with the tower, {1000 * seconds['cached'] / pairs:.1f} "
                    f"from the folder: {ratios[name]:.1f}x less; {bound}; "
                    f"writing it once {first:.1f} s; embeddings {difference:.1e}",
                )
            )
            values[name] = {**seconds, "pairs": pairs, "writing": first, "flops": operations}
    published = next(iter(CASES))
    report("lit_cache", rows, {"ratio": ratios[published], "ratios": ratios, "cases": values})
    return 0


class Epoch:
    """Steps of a training, again and again."""

    def __init__(self, words: list[str], case: Case) -> None:
        from medvlp.builders import build_data, build_objective
        from medvlp.config import compose

        self.batch = case.batch
        config = compose("train", ["recipes=clip_rocov2", "tasks=[]", "data.workers=0", *words])
        self.objective = build_objective(config)
        self.data, self.steps = build_data(config, self.objective.pipeline), case.steps
        self.data.prepare_data()
        self.data.setup()
        self.module = self.objective.module
        self.optimizer = self.module.configure_optimizers()["optimizer"]

    def batches(self) -> list[Callable[[], object]]:
        """What reads each batch."""
        from medvlp.data.plan import RankSchedule

        requests = list(RankSchedule(self.data.plan, self.batch).requests(0, self.steps))
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

    def operations(self) -> float:
        """FLOP of a pair: matrix products, convolutions and attention, forward and backward."""
        from torch.utils.flop_counter import FlopCounterMode

        self.module.train()
        with FlopCounterMode(display=False) as counter:
            self.module.loss(self.batches()[0]())[0].backward()
        self.optimizer.zero_grad()
        return counter.get_total_flops() / self.batch


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
