"""Weights of timm towers, from a file."""

from collections.abc import Mapping

from torch import Tensor, nn

from medvlp.models.weights import WeightsError, load_tensors

CLASSIFIERS = ("classifier.", "fc.", "head.fc.", "head.")


def load_trunk(trunk: nn.Module, reference: str) -> None:
    """Load every tensor of a headless timm tower from a file; a classifier in the file is ignored.

    Raises:
        WeightsError: a tensor of the tower has no counterpart, or the file has one that fits nowhere.
    """
    tensors = load_tensors(reference)
    if "_conv_stem.weight" in tensors:
        tensors = timm_efficientnet_names(tensors, trunk)
    expected = trunk.state_dict()
    spare = [name for name in tensors if name not in expected and not name.startswith(CLASSIFIERS)]
    missing = [name for name in expected if name not in tensors]
    shapes = [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    if spare or missing or shapes:
        raise WeightsError(
            f"weights {reference} do not fit {type(trunk).__name__}: "
            f"missing {missing[:3]}, not in the tower {spare[:3]}, other shape {shapes[:3]}"
        )
    trunk.load_state_dict({name: tensors[name] for name in expected})


def timm_efficientnet_names(tensors: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """Rename a `_conv_stem`-style EfficientNet (the layout of the first PyTorch ports) to timm's names.

    Both list the same layers in the same order, so names are matched by position; each pair must agree in shape and in
    the kind of tensor (weight, bias, running_mean, ...).
    """
    names = list(trunk.state_dict())
    sources = [name for name in tensors if not name.startswith("_fc.")]
    for timm_name, file_name in zip(names, sources, strict=False):
        if timm_name.rsplit(".", 1)[-1] != file_name.rsplit(".", 1)[-1]:
            raise WeightsError(f"EfficientNet weights: {file_name} stands where {timm_name} belongs")
    if len(names) != len(sources):
        raise WeightsError(f"EfficientNet weights: {len(sources)} tensors for a tower of {len(names)}")
    return {timm_name: tensors[file_name] for timm_name, file_name in zip(names, sources, strict=True)}
