"""What of a classifier stays in evaluation mode while it trains."""

import pytest
from torch.nn.modules.batchnorm import _BatchNorm

from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.classification import Classification, HeadLoss
from tests.models.classifier.test_model import timm_classifier


@pytest.mark.parametrize(
    ("fixed", "frozen", "batch_norm_trains"),
    [(False, (), True), (True, (), False), (False, ("vision",), False)],
)
def test_batch_norm_keeps_its_statistics_where_that_is_wanted(tmp_path, fixed, frozen, batch_norm_trains):
    classifier, _ = timm_classifier(tmp_path, "test_efficientnet", 64)
    settings = OptimizerSettings(1e-3, 0.0, (0.9, 0.98), 1e-6, "constant", 0, 0.0, frozen=frozen)
    heads = {"a": HeadLoss(False), "b": HeadLoss(True)}
    module = Classification(classifier.model, heads, settings, 0, [0.5] * 3, [0.5] * 3, fixed)
    for mode in (False, True):  # as around an evaluation
        module.train(mode)
    layers = [layer for layer in module.model.modules() if isinstance(layer, _BatchNorm)]
    assert layers
    assert all(layer.training == batch_norm_trains for layer in layers)
    assert all(layer.weight.requires_grad != bool(frozen) for layer in layers)
    assert module.model.head.training
