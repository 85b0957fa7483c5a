"""Supervised classification from its configuration."""

from medvlp.builders.data import training_view
from medvlp.builders.objectives import optimizer_settings
from medvlp.builders.towers import vision_tower
from medvlp.config import ClassifierConfig, ClassifyConfig, HeadConfig, TrainConfig
from medvlp.data.classification import HeadLabels, LabelPipeline, PrepareLabelled
from medvlp.data.labels import ClassLabels
from medvlp.eval.classification.model import ClassifierEncoder, ClassifierModel
from medvlp.models.classifier.metadata import metadata_of
from medvlp.models.classifier.model import assemble
from medvlp.training.module import Objective
from medvlp.training.objectives.classification import Classification, HeadLoss

EVALUATED_AT_ONCE = 64
"""Images in a batch of an evaluation during training."""


def classify(config: TrainConfig) -> Objective:
    """A classifier with the losses of its heads."""
    assert isinstance(config.objective, ClassifyConfig)
    assert isinstance(config.model, ClassifierConfig)
    heads, data = config.objective.heads, config.data
    labels = {name: class_labels(head) for name, head in heads.items()}
    tower = vision_tower(config.model.vision)
    classifier = assemble(tower, config.model.pool, {name: head.metadata() for name, head in labels.items()})
    prepare = PrepareLabelled(labels, training_view(data, classifier.size))
    pipeline = LabelPipeline(
        {name: HeadLabels(labels[name], head.balanced, weights_of(head)) for name, head in heads.items()}, prepare
    )
    module = Classification(
        classifier.model,
        {name: HeadLoss(labels[name].multi_label, head.label_smoothing, head.weight) for name, head in heads.items()},
        optimizer_settings(config.optim),
        config.seed,
        classifier.processor.image_mean,
        classifier.processor.image_std,
        config.model.fixed_batch_norm,
    )

    def evaluated(identity: str) -> ClassifierModel:
        encoder = ClassifierEncoder(classifier, module.device, identity)
        return ClassifierModel(encoder, labels, EVALUATED_AT_ONCE, data.workers, data.max_pixels)

    return Objective(module, pipeline, {"classifier": metadata_of(classifier)}, evaluated)


def class_labels(head: HeadConfig) -> ClassLabels:
    """How a head reads its labels."""
    return ClassLabels(head.label, tuple(head.classes), head.kind == "multi_label", tuple(head.exclude), head.uncertain)


def weights_of(head: HeadConfig) -> tuple[float, ...]:
    """A weight for each class; none where no class has one."""
    return tuple(head.class_weights.get(name, 1.0) for name in head.classes) if head.class_weights else ()
