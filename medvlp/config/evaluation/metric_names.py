"""What the names of metrics say: the main ones of each kind of task, and those that are errors."""

import re
from collections.abc import Iterable

from medvlp.config.evaluation.controls import IMAGE_CONTROLS, VARIANT_CONTROLS

JUDGED = ("judge_accuracy", "judge_relative")
"""Of verdicts of a judge, where there is one."""

MAIN: dict[str, tuple[str, ...]] = {
    "zero_shot": ("acc1", "auroc"),
    "classification": ("acc1", "auroc", "map"),
    "probe": ("acc1", "auroc", "map", "16shot_acc1", "knn_acc1"),
    "multi_label": ("auroc", "map", "f1"),
    "retrieval": ("image_to_text_recall", "text_to_image_recall"),
    "text_retrieval": ("ndcg", "recall"),
    "composed_retrieval": ("recall", "ndcg"),
    "vqa": (
        *("exact_match", "closed_accuracy", "open_token_recall", "generated_accuracy", "number_accuracy", "set_f1"),
        *JUDGED,
    ),
    "text": ("bleu_4", "rouge_l", "meteor", "cider_d", "findings_f1_micro", *JUDGED),
    "error_check": (
        *("flag_accuracy", "sentence_accuracy", "correction_rouge_1_composite", "correction_aggregate_composite"),
    ),
}
"""Kind of task → the metrics that leaderboards show and models are compared on, of recall the one at `MAIN_K`."""
MAIN_OTHERWISE: dict[str, tuple[str, ...]] = {
    "vqa": ("letter_likelihood_accuracy", "normalised_likelihood_accuracy", "most_similar_accuracy"),
}
"""Kind → metrics of which the first stands for the main ones where a task has none of them: an exam by likelihoods alone."""
MAIN_K = 10
"""Where a task does not measure recall@10, the largest k that it has stands for it."""

LOWER_IS_BETTER = (
    *("unparsed", "refused", "draws_sd", "ece", "brier", "aurc", "error", "loss", "blank_image_retention"),
    *("visual_claim_rate", "hallucinated_visual_reasoning_rate", "hallucinated_share_of_claims"),
    *("pair_confusion", "judge_unread", "second_judge_unread"),
)
"""Metrics that are errors; `error` and `loss` for kinds of task of one's own."""

CALIBRATED = frozenset(("ece", "brier", "aurc"))
"""Metrics of a task's probabilities; besides them `SENSITIVITY`."""
SENSITIVITY = re.compile(r"sensitivity@([0-9]{1,2}(?:\.[0-9]{1,6})?)specificity")


def main_metrics(kind: str, names: Iterable[str]) -> list[str]:
    """The main ones of a task's metrics; none of a kind that is not known."""
    names = list(names)
    main = []
    for entry in MAIN.get(kind, ()):
        ks = [int(name[len(entry) + 1 :]) for name in names if re.fullmatch(rf"{entry}@[0-9]{{1,6}}", name)]
        name = f"{entry}@{MAIN_K if MAIN_K in ks else max(ks)}" if ks else entry
        main += [name] if name in names else []
    return main or [name for name in MAIN_OTHERWISE.get(kind, ()) if name in names][:1]


def direction(metric: str) -> int:
    """1 where higher is better, -1 where lower is: of a metric, of a part of its items, and of what is derived from it
    (`unparsed/blank_image`, `error/worst_group[sex]`).

    A refusal is right where the image is broken, another one, or absent. Of a score minus the same score in another wording, less
    is better.
    """
    names = [re.sub(r"_((not_)?in_train|(un)?seen)$", "", part) for part in metric.split("/")]
    if names[0] == "refused" and names[-1] in IMAGE_CONTROLS:
        return 1
    sign = -1 if any(name in LOWER_IS_BETTER or name.endswith("_suggested") for name in names) else 1
    return -sign if any(name == f"minus_{control}" for control in VARIANT_CONTROLS for name in names) else sign
