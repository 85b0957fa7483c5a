import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from medvlp.augment import TRANSFORMS, AugmentError, augmented, parse_transforms

KEY = "data.augment.transforms"
OPTIONS = {
    "color_jitter": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
    "monai": {"transform": "RandGaussianNoise", "arguments": {"std": 0.2}},
}
KEEPS_GREY = ("intensity", "gamma", "gaussian_noise", "gaussian_blur", "rotation", "coarse_dropout")


def picture(is_grey: bool = False) -> torch.Tensor:
    image = torch.from_numpy(np.random.default_rng(0).integers(40, 200, (24, 24, 3), dtype=np.uint8)).permute(2, 0, 1)
    return image[:1].expand(3, -1, -1) if is_grey else image


def chain(*entries):
    return parse_transforms(entries, KEY)


def state(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_random_state_alone_decides(name):
    (transform,) = chain({"name": name, "probability": 1, **OPTIONS.get(name, {})})
    views = [augmented(picture(), [transform], state(seed)) for seed in (3, 3, 4)]
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2]) is (name in ("grayscale", "horizontal_flip", "vertical_flip"))
    assert views[0].dtype == torch.uint8
    assert views[0].shape == (3, 24, 24)
    assert not torch.equal(views[0], picture())
    deep = augmented(picture().float(), [transform], state())
    assert deep.dtype == torch.float32
    assert (deep.round() - views[0]).abs().max() == 0
    if name in KEEPS_GREY:
        grey = augmented(picture(is_grey=True), [transform], state())
        assert torch.equal(grey, grey[:1].expand(3, -1, -1))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("grayscale", {}, lambda image, rng: functional.rgb_to_grayscale(image, 3)),
        ("gamma", {"gamma": [0.5, 2]}, lambda image, rng: functional.adjust_gamma(image, rng.uniform(0.5, 2))),
        (
            "intensity",
            {"scale": 0, "shift": 0.2},
            lambda image, rng: image + (rng.uniform(1, 1), rng.uniform(-0.2, 0.2))[1],
        ),
        ("gaussian_blur", {"sigma": [2, 2]}, lambda image, rng: functional.gaussian_blur(image, [13, 13], [2.0, 2.0])),
        ("horizontal_flip", {}, lambda image, rng: functional.horizontal_flip(image)),
        ("vertical_flip", {}, lambda image, rng: functional.vertical_flip(image)),
    ],
)
def test_values_are_torchvisions(name, options, expected):
    (transform,) = chain({"name": name, "probability": 1, **options})
    image = picture() / 255
    torch.testing.assert_close(transform.apply(image, state()), expected(image, state()), rtol=0, atol=1e-6)


def test_jitter_applies_torchvisions_adjustments_in_a_drawn_order():
    (transform,) = chain({"name": "color_jitter", "brightness": 0.4, "hue": 0.2})
    image, rng, orders = picture() / 255, state(), set()
    for seed in range(6):
        rng = state(seed)
        result = image
        order = [index for index in rng.permutation(4) if index in (0, 3)]
        orders.add(tuple(order))
        for index in order:
            adjust, low, high = [functional.adjust_brightness, 0, 0, functional.adjust_hue][index], 0.6, 1.4
            result = adjust(result, rng.uniform(low, high) if index == 0 else rng.uniform(-0.2, 0.2))
        torch.testing.assert_close(transform.apply(image, state(seed)), result, rtol=0, atol=1e-6)
    assert len(orders) == 2


def test_noise_and_holes_are_as_large_as_asked_for():
    noise, holes = chain(
        {"name": "gaussian_noise", "std": [0.1, 0.1]},
        {"name": "coarse_dropout", "holes": [2, 2], "size": [0.25, 0.25], "fill": 1},
    )
    image = torch.full((3, 200, 200), 0.5)
    assert (noise.apply(image, state()) - image).std() == pytest.approx(0.1, rel=0.02)
    filled = [int((holes.apply(image, state(seed))[0] == 1).sum()) for seed in range(20)]
    assert max(filled) == 2 * 50 * 50
    assert min(filled) < 2 * 50 * 50  # they may overlap


def test_a_rotation_turns_by_its_angle():
    (transform,) = chain({"name": "rotation", "degrees": 30})
    image = torch.zeros(3, 41, 41)
    image[:, 20, 30] = 1
    turned = transform.apply(image, state())[0]
    row, column = divmod(int(turned.argmax()), 41)
    angle = np.degrees(np.arctan2(20 - row, column - 20))
    assert angle == pytest.approx(state().uniform(-30, 30), abs=4)


def test_each_is_applied_with_its_probability():
    flips = chain({"name": "horizontal_flip", "probability": 0.3})
    image = picture()
    shares = np.mean([not torch.equal(augmented(image, flips, state(seed)), image) for seed in range(400)])
    assert shares == pytest.approx(0.3, abs=0.07)  # three standard errors
    assert augmented(image, (), state()) is image


def test_monais_transforms_are_applied_by_name_and_seeded():
    from monai.transforms import RandBiasField

    (transform,) = chain({"name": "monai", "transform": "RandBiasField", "arguments": {"coeff_range": [0.1, 0.3]}})
    monais = RandBiasField(coeff_range=(0.1, 0.3), prob=1.0).set_random_state(int(state().integers(2**32)))
    image = picture() / 255
    torch.testing.assert_close(transform.apply(image, state()), torch.as_tensor(monais(image)).float())


def test_mirrors_are_known():
    mirrors = [name for name in TRANSFORMS if chain({"name": name, **OPTIONS.get(name, {})})[0].mirrors]
    assert mirrors == ["horizontal_flip", "vertical_flip"]
    assert chain({"name": "monai", "transform": "RandFlip"})[0].mirrors


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("rotation", r"\[0\] is 'rotation', expected {name: color_jitter"),
        ({"name": "color_jiter"}, "did you mean 'color_jitter'"),
        ({"name": "rotation", "degree": 3}, "rotation; did you mean 'degrees'"),
        ({"name": "rotation", "degrees": "3"}, "degrees=3 must be a number"),
        ({"name": "rotation", "degrees": 0}, "above 0 and at most 180"),
        ({"name": "gamma", "gamma": 2}, r"must be \[smallest, largest\], such as \[0.8, 1.25\]"),
        ({"name": "gamma", "gamma": [2, 1]}, r"gamma=\[2.0, 1.0\] must be \[smallest, largest\]"),
        ({"name": "gaussian_noise", "std": [0, float("inf")]}, r"std=\[0.0, inf\] must be \[smallest, largest\]"),
        ({"name": "gamma", "probability": 0}, "probability=0.0 must be above 0"),
        ({"name": "coarse_dropout", "holes": [1, 2.5]}, "must be whole"),
        ({"name": "monai", "transform": "os.system"}, "must be MONAI's"),
        ({"name": "monai", "transform": "RandFlipd"}, "no random transform of arrays"),
        ({"name": "monai", "transform": "RandGaussianNoise", "arguments": {"prob": 1}}, "say probability"),
        ({"name": "monai", "transform": "RandGaussianNoise", "arguments": {"sigma": 1}}, "unexpected keyword"),
    ],
)
def test_what_is_wrong_is_said_with_what_there_is(entry, message):
    with pytest.raises(AugmentError, match=message):
        chain(entry)


def test_a_transform_that_changes_the_shape_is_refused():
    (transform,) = chain(
        {"name": "monai", "transform": "RandSpatialCrop", "arguments": {"roi_size": 8, "random_size": False}}
    )
    with pytest.raises(AugmentError, match="keeps its shape"):
        transform.apply(picture() / 255, state())
