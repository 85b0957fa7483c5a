import os
import pickle
import re
import tomllib

import pytest
import torch
from safetensors.torch import save_file

from medvlp.models.weights import INSTALL, WeightsError, files_hash, load_tensors, resolve, weights_hash
from tests.conftest import REPOSITORY


def test_a_package_reference_is_a_file_inside_it():
    assert resolve("package:open_clip/model_configs/ViT-B-32.json").endswith("open_clip/model_configs/ViT-B-32.json")
    assert resolve("some/folder") == "some/folder"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("package:not_installed_here/model", r"install the package that carries these weights"),
        ("package:open_clip/nothing.pt", "no such file in the package"),
        ("package:open_clip/../torch/version.py", "leaves its package's folder"),
        ("package:os.path/x", "is not installed"),
    ],
)
def test_a_wrong_package_reference_says_why(reference, said):
    with pytest.raises(WeightsError, match=said):
        resolve(reference)


class Harm:
    def __reduce__(self):
        return (os.abort, ())


def test_weights_are_tensors_by_name_and_nothing_is_unpickled(tmp_path):
    tensors = {"a": torch.ones(2), "b": torch.zeros(1)}
    torch.save({"state_dict": tensors}, tmp_path / "t.pt")
    save_file(tensors, tmp_path / "t.safetensors")
    for name in ("t.pt", "t.safetensors"):
        assert torch.equal(load_tensors(str(tmp_path / name))["a"], torch.ones(2))
    (tmp_path / "harm.pt").write_bytes(pickle.dumps(Harm()))
    torch.save({"a": Harm()}, tmp_path / "harm2.pt")
    torch.save([1], tmp_path / "list.pt")
    for name in ("harm.pt", "harm2.pt", "list.pt", "absent.pt"):
        with pytest.raises(WeightsError, match=name):
            load_tensors(str(tmp_path / name))


def test_the_weights_hash_is_of_names_types_shapes_and_values():
    base = {"a": torch.arange(6.0), "b": torch.tensor(1)}
    assert weights_hash(base) == weights_hash({"b": torch.tensor(1), "a": torch.arange(6.0)})
    assert weights_hash(base) == weights_hash({**base, "a": torch.arange(12.0)[::2] / 2})
    others = [
        {**base, "a": torch.arange(6.0).view(2, 3)},
        {**base, "a": torch.arange(6)},
        {"c": base["a"], "b": base["b"]},
    ]
    hashes = {weights_hash(made) for made in [base, *others, {**base, "a": torch.arange(6.0) + 1e-7}]}
    assert len(hashes) == 5
    assert weights_hash({"h": torch.ones(3, dtype=torch.bfloat16)}) != weights_hash({"h": torch.ones(3)})


def test_the_files_hash_is_of_the_files_that_are_there(tmp_path):
    (tmp_path / "a").write_text("1")
    digest = files_hash(tmp_path, ("a", "b"))
    (tmp_path / "b").write_text("")
    assert files_hash(tmp_path, ("a", "b")) != digest == files_hash(tmp_path, ("a",))


def test_every_package_that_a_shipped_option_names_says_how_it_is_installed():
    named = {
        package
        for path in (REPOSITORY / "configs/model").glob("*.yaml")
        for package in re.findall(r"package:(\w+)/", path.read_text("utf-8"))
    }
    assert named
    assert named <= set(INSTALL)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for package in named:
        for extra in re.findall(r"medvlp\[(\w+)\]", INSTALL[package]):
            assert extra in project
        distribution = package.replace("_", "-")
        carried = any(requirement.startswith(distribution) for requirement in project["offline"])
        assert carried == ("medvlp[offline]" in INSTALL[package]), (
            package
        )  # an extra is named where it brings the package
