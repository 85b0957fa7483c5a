"""Folded batch norms: the same features, in every order of layers; what cannot be folded stays bit for bit."""

import copy

import pytest
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from timm.layers import BatchNormAct2d
from torch import nn

from medvlp.models.batch_norm import fold_batch_norms


def with_statistics(model: nn.Module) -> nn.Module:
    """Batch norms as after training: means, variances, weights and biases that are not 0 and 1."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.3)
    return model.eval()


class PreAct(nn.Module):
    """Batch norm before the convolution, as in ResNet v2."""

    def __init__(self):
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)

    def forward(self, pixels):
        return self.conv(self.bn(pixels))


class ReadTwice(nn.Module):
    """The convolution's output goes into a batch norm, and past it."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixels):
        features = self.conv(pixels)
        return self.bn(features) + features


class UsedTwice(nn.Module):
    """One batch norm after two convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.bn = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, pixels):
        return self.bn(self.second(self.bn(self.first(pixels))))


class WithActivation(nn.Module):
    """timm's batch norm with its activation, without weights of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, bias=False), BatchNormAct2d(4, affine=False, act_layer=nn.SiLU)

    def forward(self, pixels):
        return self.bn(self.conv(pixels))


@pytest.mark.parametrize(
    ("make", "size", "folded"),
    [
        (lambda: timm.create_model("efficientnet_lite0", num_classes=0), 64, 49),
        (lambda: ModifiedResNet([1, 1, 1, 1], output_dim=16, heads=4, image_size=64, width=8), 64, 19),
        (WithActivation, 8, 1),
        (PreAct, 8, 0),
        (ReadTwice, 8, 0),
        (UsedTwice, 8, 0),
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=1), 32, 0),
    ],
    ids=["EfficientNet", "open_clip's ResNet", "activation", "before", "read twice", "used twice", "ViT"],
)
def test_features_are_the_same(make, size, folded):
    model = with_statistics(make())
    former = copy.deepcopy(model)
    assert fold_batch_norms(model, model, size) == folded
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules()) == (
        sum(isinstance(layer, nn.BatchNorm2d) for layer in former.modules()) - folded
    )
    pixels_BCHW = torch.randn(3, 3, size, size)
    with torch.no_grad():
        expected, features = former(pixels_BCHW), model(pixels_BCHW)
    if folded:
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))
        assert not torch.equal(features, expected), "the test has to see a folded model"
    else:
        assert torch.equal(features, expected)


def test_weights_that_are_no_numbers_stay():
    model = with_statistics(WithActivation())
    nn.init.constant_(model.conv.weight, float("nan"))
    assert fold_batch_norms(model, model, 8) == 0
    assert isinstance(model.bn, BatchNormAct2d)
    assert model.conv.bias is None


def test_half_precision_stays():
    model = with_statistics(WithActivation()).to(torch.bfloat16)
    assert fold_batch_norms(model, model, 8) == 0
