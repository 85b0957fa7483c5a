"""An evaluation folder of many models and tasks, with every file that a sweep may leave: for tests, and to look at.

python -m tests.report.sweep.sweep_folder <folder>
"""

import math
import random
import sys
from pathlib import Path

from medvlp.shards import Sample, ShardDataset
from tests.report.dataset.small_folders import jpeg, jsonl, write_split

MODELS = [
    *(f"runs/clip_rocov2/checkpoints/step-{step:06d}.ckpt" for step in range(100, 600, 100)),
    "runs/clip_rocov2/checkpoints/last.ckpt",
    *(f"runs/clip_pmc_large_batch/checkpoints/step-{step:06d}.ckpt" for step in range(1000, 4000, 1000)),
    "open_clip:ViT-B-32@laion2b_s34b_b79k",
    "open_clip:hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    "open_clip:exports/clip_rocov2",
    "hf:openai/clip-vit-base-patch32",
    "runs/llava_vqarad_smol/checkpoints/step-000100.ckpt",
    "runs/llava_vqarad_smol/checkpoints/step-000200.ckpt",
    "runs/llava_vqarad_smol/checkpoints/last.ckpt",
    "hf:llava-hf/llava-1.5-7b-hf",
    "hf:google/medgemma-4b-it@main",
    "hf:HuggingFaceTB/SmolLM2-135M-Instruct",
    "api:http://localhost:8000/v1#qwen2.5-vl-72b-instruct",
]
ASSISTANTS = 13
"""Position of the first model that answers questions; those before it give embeddings."""
ZERO_SHOT = ["rocov2_modality", "breastmnist", "pneumoniamnist", "mni152_plane", "dermamnist", "retinamnist"]
RETRIEVAL = ["rocov2_retrieval", "pmc_retrieval"]
FREE = ["vqa_rad", "slake", "pathvqa", "kvasir_vqa", "quilt_vqa"]
CHOICE = ["pmc_vqa", "omnimedvqa"]
SPLIT = "test"
CLASSES = {"CT": ["computed tomography"], "MRI": ["magnetic resonance imaging", "MRI"], "X-ray": ["radiograph"]}
GROUPS = {"modality": ["CT", "MRI", "X-ray", "ultrasound"], "sex": ["F", "M", ""]}
USE = "research use only; not for clinical use"


def shards(folder):
    """A prepared split of twelve images."""
    samples = [
        Sample(
            f"images__{i}", {"jpg": jpeg(20 * i)}, {"caption": f"image {i}, axial CT"}, metadata={"group": f"p{i // 2}"}
        )
        for i in range(12)
    ]
    write_split(folder, SPLIT, samples)
    return folder / SPLIT


def metrics_of(kind, task):
    """Names of the metrics that a task of a kind reports."""
    if kind == "zero_shot":
        calibration = ["ece", "brier", "aurc", *(["sensitivity@95specificity"] if task.endswith("mnist") else [])]
        return ["acc1", "mean_per_class_recall", "auroc", *calibration]
    if kind == "retrieval":
        return [f"{way}_recall@{k}" for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    main = ["letter_likelihood_accuracy", "generated_accuracy"]
    if task not in CHOICE:
        main = ["closed_accuracy", "open_token_recall", "exact_match"]
    controls = ("best_constant", "minus_best_constant", "blank_image", "minus_blank_image", "shuffled_images",
                "minus_shuffled_images")  # fmt: skip
    return [name for metric in main for name in (metric, *(f"{metric}/{control}" for control in controls))] + [
        "unparsed",
        *(f"{main[0]}/{end}[{by}]" for by in GROUPS for end in ("equity_scaled", "worst_group")),
    ]


def write_sweep(folder, images, models=MODELS, seed=0):
    """Write the files of a sweep over all tasks; images: a folder for a small prepared split that the records name."""
    rng = random.Random(seed)
    data = shards(images)
    split_hash = ShardDataset(data).manifest_hash
    results, comparisons, subgroups, calibration, failures = [], [], [], [], []
    (folder / "samples").mkdir(parents=True)
    tasks = [("zero_shot", t) for t in ZERO_SHOT] + [("retrieval", t) for t in RETRIEVAL]
    tasks += [("vqa", t) for t in [*FREE, *CHOICE]]
    for position, (kind, task) in enumerate(tasks):
        base, n = rng.uniform(0.3, 0.8), rng.choice([98, 156, 451, 624, 5000])
        able = [m for i, m in enumerate(models) if (i >= ASSISTANTS) == (kind == "vqa")]
        for number, model in enumerate(able):
            if (position + number) % 17 == 5:
                failures.append({"checkpoint": model, "task": task, "split": SPLIT,
                                 "reason": "CUDA out of memory: 22.31 GiB asked, <b>3.1 GiB</b> free"})  # fmt: skip
                continue
            skill = min(max(base + 0.02 * number + rng.gauss(0, 0.05), 0.02), 0.98)
            protocol = protocol_of(kind, task, model, data, split_hash, n, number)
            records = f"samples/{task}--{models.index(model)}.jsonl"
            protocol["records"] = records
            jsonl(folder / records, records_of(kind, task, rng, skill))
            shuffled = 0.0 if "SmolLM2" in model else 0.06
            for metric in metrics_of(kind, task):
                value = max(0.0, min(1.0, skill + rng.gauss(0, 0.02)))
                half = 1.96 * math.sqrt(skill * (1 - skill) / n)
                if "/minus_" in metric:
                    value = shuffled + rng.gauss(0, 0.005)
                if metric.rpartition("/")[2] in ("ece", "brier", "aurc", "unparsed"):
                    value = abs(rng.gauss(0.1, 0.03))
                low, high = value - half, value + half
                if metric in protocol.get("omitted", {}):
                    continue
                results.append({"checkpoint": model, "task": task, "metric": metric, "value": value, "ci_low": low,
                                "ci_high": high, "n": n, "protocol": protocol})  # fmt: skip
            main = next(m for m in ("acc1", "image_to_text_recall@10", "closed_accuracy", "generated_accuracy")
                        if m in metrics_of(kind, task))  # fmt: skip
            for by, groups in GROUPS.items() if kind != "retrieval" else ():
                for group in groups:
                    value = min(1.0, max(0.0, skill + rng.gauss(0, 0.08)))
                    subgroups.append({"checkpoint": model, "task": task, "split": SPLIT, "metric": main, "by": by,
                                      "group": group, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1,
                                      "n": n // 4, "clusters": n // 8})  # fmt: skip
            if kind == "zero_shot":
                calibration.append({"checkpoint": model, "task": task, "split": SPLIT, **calibration_of(rng, n, skill)})
        comparisons += comparisons_of(rng, task, results, n)
    for name, rows in (("results", results), ("comparisons", comparisons), ("subgroups", subgroups),
                       ("calibration", calibration), ("failures", failures)):  # fmt: skip
        jsonl(folder / f"{name}.jsonl", rows)
    (folder / "config.yaml").write_text("checkpoints: [runs/*]\n")
    return folder


def protocol_of(kind, task, model, data, split_hash, n, number):
    """A protocol as the kinds of tasks write them."""
    protocol = {
        "kind": kind, "data": str(data), "split": SPLIT, "split_hash": split_hash, "samples": n + 2, "n": n,
        "unique_images": n - 3, "excluded": {"unknown": 2}, "bad": {}, "bad_keys": [], "in_train": None,
        "weights": f"{abs(hash_of(model)):064x}", "tie_rule": "a tie counts as an error", "use": USE,
        "bootstrap": {"method": "percentile bootstrap over clusters of items", "level": 0.95, "resamples": 10000,
                      "seed": 0, "cluster": "group (article)", "clusters": n // 2},
        "exclusions": [f"2 of {n + 2} samples: label 'unknown' is no class of the task"],
    }  # fmt: skip
    if model.startswith("runs/"):
        counts = {"samples": n, "same_bytes": 0, "same_picture": 0, "compared": ["data/train"], "unknown": []}
        if task == "kvasir_vqa":
            counts["same_bytes"] = n
        if task == "rocov2_retrieval":
            counts["same_picture"] = 7
        protocol["in_train"] = counts
        if "step-" not in model:
            protocol["step"] = 312 if "llava" in model else 600
    else:
        protocol["in_train"] = "unknown"
    if "laion2b" in model:
        protocol["untrained"] = "random weights, seed 0"
    if kind == "zero_shot":
        protocol |= {"label": "modality", "classes": CLASSES, "templates": ["a photo of {}", "{} presented in image"]}
    if kind == "retrieval":
        protocol |= {"text": ["caption"], "recall_at": [1, 5, 10], "unique_n": n}
    if kind == "vqa":
        protocol |= {"first_prompt": "<|im_start|>user\n<image>is there pneumonia?<|im_end|>", "instruction": "",
                     "decoding": f"greedy, at most {16 + number // 4} tokens"}  # fmt: skip
        if "SmolLM2" in model:
            protocol["images"] = "withheld: a language model"
        if model.startswith("api:") and task in CHOICE:
            protocol["omitted"] = {"letter_likelihood_accuracy": "an API gives no likelihoods"}
    return protocol


def hash_of(text):
    return int.from_bytes(text.encode()[-24:], "big")


def records_of(kind, task, rng, skill):
    """Twelve records with the fields of their kind."""
    rows = []
    for i in range(12):
        row = {"id": f"images__{i}", "group": f"p{i // 2}", "score": round(rng.random(), 3), "kind": kind}
        if kind == "zero_shot":
            target = list(CLASSES)[i % 3]
            row |= {"target": target, "prediction": target if rng.random() < skill else "CT"}
        elif kind == "retrieval":
            for direction in ("image_to_text", "text_to_image"):
                rank = 1 if rng.random() < skill else rng.randrange(2, 12)
                rows.append(row | {"target": [row["id"]], "direction": direction, "rank": rank,
                                   "prediction": f"images__{rank % 12}"})  # fmt: skip
            continue
        else:
            right = rng.random() < skill
            row |= {"id": f"images__{i}#0", "question": "is there a pleural effusion on the left side?", "target": "yes",
                    "prediction": "yes" if right else "no", "score": float(right), "answer_type": "closed",
                    "question_type": "presence", "scores": {"closed_accuracy": float(right)},
                    "controls": {"shuffled_images": "yes"}}  # fmt: skip
        rows.append(row)
    return rows


def calibration_of(rng, n, skill):
    bins = []
    for i in range(15):
        count = int(n * (i + 1) / 120)
        mean = (i + 0.5) / 15
        accuracy = min(1.0, max(0.0, mean * (0.7 + 0.3 * skill) + rng.gauss(0, 0.04)))
        empty = {"confidence": None, "accuracy": None}
        bins.append({"low": i / 15, "high": (i + 1) / 15, "n": count if i > 3 else 0,
                     **({"confidence": mean, "accuracy": accuracy} if i > 3 else empty)})  # fmt: skip
    curve = [[c / 200, min(1.0, skill + (1 - skill) * (1 - c / 200) ** 0.7)] for c in range(1, 201)]
    return {"metric": "acc1", "bins": bins, "risk_coverage": curve}


def comparisons_of(rng, task, results, n):
    """All pairs of models on the main metrics of one task; those with different decoding are not compared."""
    rows = []
    mains = ("acc1", "auroc", "image_to_text_recall@10", "text_to_image_recall@10", "exact_match", "closed_accuracy",
             "open_token_recall", "generated_accuracy")  # fmt: skip
    for metric in mains:
        members = [row for row in results if (row["task"], row["metric"]) == (task, metric)]
        for i, a in enumerate(members):
            for b in members[i + 1 :]:
                same = a["protocol"].get("decoding") == b["protocol"].get("decoding")
                difference = a["value"] - b["value"]
                p = math.erfc(abs(difference) / 0.03)
                rows.append({"task": task, "split": SPLIT, "metric": metric, "a": a["checkpoint"], "b": b["checkpoint"],
                             "difference": difference if same else None, "ci_low": difference - 0.03 if same else None,
                             "ci_high": difference + 0.03 if same else None, "p": p if same else None,
                             "p_holm": min(1.0, 5 * p) if same else None, "n": n, "clusters": n // 2,
                             "wins": n // 5 if same else None, "ties": n - n // 5 - n // 6 if same else None,
                             "losses": n // 6 if same else None, "differing": [] if same else [
                                 f"decoding: {a['protocol']['decoding']} against {b['protocol']['decoding']}"]})  # fmt: skip
    return rows


if __name__ == "__main__":
    target = Path(sys.argv[1])
    write_sweep(target / "eval", target / "images")
    print(target / "eval")
