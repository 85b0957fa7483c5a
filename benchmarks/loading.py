"""CPU time to bring an image from a shard to a training tensor, against webdataset with open_clip's transform.

Both read the same tars in one process, without workers: the sum over workers is what a node has to pay. Both give the
same images (asserted, within 3/255) when crops keep the whole area. It does not show what many workers gain from a
warm cache, a network store, or a decoder on a GPU.
"""

import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.measure import interleaved, report

IMAGES, SIZE, ROUNDS = 200, 224, 5


def main() -> int:
    warnings.filterwarnings("ignore")
    import torch
    import webdataset as wds
    from open_clip.transform import AugmentationCfg, image_transform

    from data_prep.pipeline import prepare
    from medvlp.data.dataset import RequestedSamples
    from medvlp.data.pairs import PreparePairs
    from medvlp.data.plan import Request
    from medvlp.shards import ShardDataset

    source = Path(os.environ.get("MEDVLP_TEST_DATA", "../shared/data")) / "rocov2"
    if not source.is_dir():
        print(f"needs ROCOv2 files: {source} does not exist; set MEDVLP_TEST_DATA", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        prepare("rocov2", str(source), folder, workers=2)
        split = Path(folder) / "train"
        dataset = ShardDataset(split)
        urls = [str(split / name) for name in dataset.manifest.shards]

        def ours(scale: tuple[float, float]) -> dict[str, torch.Tensor]:
            pairs = PreparePairs([["caption"]], lambda text: [0], SIZE, scale, (3 / 4, 4 / 3), 10**8)
            units = RequestedSamples([("rocov2", dataset)], pairs, 0)
            items = [units[Request(0, (n,), (n,))]["items"][0] for n in range(IMAGES)]
            return {item["key"]: item["image"] for item in items}

        def theirs(scale: tuple[float, float]) -> dict[str, torch.Tensor]:
            transform = image_transform(SIZE, True, (0.0,) * 3, (1.0,) * 3, aug_cfg=AugmentationCfg(scale=scale))
            pipeline = wds.WebDataset(urls, shardshuffle=False).decode("pilrgb").map_dict(jpg=transform)
            return {sample["__key__"]: sample["jpg"] for sample, _ in zip(pipeline, range(IMAGES), strict=False)}

        own_images, peers = ours((1.0, 1.0)), theirs((1.0, 1.0))
        assert own_images.keys() == peers.keys()
        differences = [float((own_images[key].float() - peers[key] * 255).abs().max()) for key in own_images]
        # A drawn aspect that fits by chance gives another crop; every other image has to agree.
        agreeing = float(np.mean([difference <= 3.0 for difference in differences]))
        assert agreeing >= 0.95, f"only {agreeing:.0%} of the images agree"
        seconds = interleaved({"theirs": lambda: theirs((0.9, 1.0)), "ours": lambda: ours((0.9, 1.0))}, ROUNDS)
    per_image = {name: value / IMAGES * 1000 for name, value in seconds.items()}
    ratio = per_image["theirs"] / per_image["ours"]
    report(
        "loading",
        [
            ("webdataset + open_clip's transform", f"{per_image['theirs']:.2f} CPU-ms an image"),
            ("medvlp", f"{per_image['ours']:.2f} CPU-ms an image"),
            ("ratio", f"{ratio:.2f} times less; {agreeing:.0%} of the images within 3/255"),
        ],
        {"cpu_ratio_open_clip_vs_medvlp": round(ratio, 3), "cpu_ms": {k: round(v, 3) for k, v in per_image.items()}},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
