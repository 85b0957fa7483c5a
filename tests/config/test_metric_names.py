"""Main metrics, and the direction of metrics, from their names."""

import pytest

from medvlp.config.evaluation.metric_names import direction, main_metrics


@pytest.mark.parametrize(
    ("metric", "sign"),
    [
        ("acc1", 1), ("unparsed", -1), ("unparsed_in_train", -1), ("error_not_in_train", -1), ("unparsed/blank_image", -1),
        ("unparsed/minus_blank_image", -1), ("blank_image_retention", -1), ("error/worst_group[sex]", -1),
        ("acc1/worst_group[sex]", 1), ("sensitivity@95specificity", 1), ("closed_accuracy/minus_blank_image", 1),
    ],
)  # fmt: skip
def test_the_direction_of_a_metric(metric, sign):
    assert direction(metric) == sign


def test_of_recalls_the_one_at_ten_is_the_main_one_or_that_of_the_largest_k():
    names = [f"image_to_text_recall@{k}" for k in (1, 5, 10, 50)] + ["text_to_image_recall@1", "text_to_image_recall@5"]
    assert main_metrics("retrieval", names) == ["image_to_text_recall@10", "text_to_image_recall@5"]
    assert main_metrics("zero_shot", ["auroc", "acc1"]) == ["acc1", "auroc"]
    assert main_metrics("my_own", ["error"]) == []
