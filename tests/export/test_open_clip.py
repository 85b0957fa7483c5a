"""A CLIP with a Hugging Face text tower opens in stock open_clip: moved, offline, from anywhere."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from medvlp.export import open_clip
from medvlp.export.equality import ExportMismatch
from medvlp.export.open_clip import how_to_open, largest_difference, probe, reloaded_embeddings, write_folder
from medvlp.models.clip.sources import from_description, named
from tests.models.tiny import TINY, tiny_architecture, tiny_text_tower


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    made = tmp_path_factory.mktemp("hf")
    tower = tiny_text_tower(made / "bert")
    path = made / "tiny-hf.json"
    path.write_text(json.dumps({**TINY, "text_cfg": {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower)}}))
    clip = named(str(path))
    clip.model.eval()
    shutil.rmtree(tower)  # what was trained from is gone
    return clip


@pytest.fixture(scope="module")
def exported(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "exported"
    folder.mkdir()
    write_folder(clip, folder, "0" * 64)
    return folder


def test_the_folder_holds_all_and_names_no_place_of_this_machine(exported):
    assert {"config.json", "tokenizer.json", "open_clip_model.safetensors", "README.md"} <= set(os.listdir(exported))
    assert (exported / "exported/config.json").read_bytes() == (exported / "config.json").read_bytes()
    for path in exported.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert "/tmp" not in path.read_text(), path
    config = json.loads((exported / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert config["hf_model_name"] == config["hf_tokenizer_name"] == "./exported"


def test_it_opens_as_its_readme_says_from_anywhere_after_a_move(clip, exported, tmp_path):
    """The README's own code, in a process that knows nothing of us, offline, with an empty cache, and a "y" on its stdin."""
    moved = tmp_path / "another name"
    shutil.copytree(exported, moved)
    questions = probe(clip)
    torch.save(questions["pixels"], tmp_path / "pixels.pt")
    code = re.findall(r"```python\n(.*?)```", (moved / "README.md").read_text(), re.DOTALL)[0]
    script = code.replace("<path of this folder>", str(moved)) + (
        f"import torch\npixels = torch.load({str(tmp_path / 'pixels.pt')!r})\n"
        f"with torch.no_grad():\n    made = [model.eval().encode_image(pixels, normalize=True),\n"
        f"        model.encode_text(tokenizer({questions['texts']!r}), normalize=True)]\n"
        f"torch.save(torch.cat(made), {str(tmp_path / 'made.pt')!r})\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    (tmp_path / "cwd").mkdir()
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "cwd",
        env=environment,
        input="y\n",
        text=True,
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr
    assert (torch.load(tmp_path / "made.pt") - questions["embeddings"]).abs().max() < 1e-6


def test_a_folder_that_differs_is_refused(clip, exported, tmp_path):
    spoiled = tmp_path / "exported"
    shutil.copytree(exported, spoiled)
    questions = probe(clip)
    with pytest.raises(ExportMismatch, match="other embeddings in open_clip, by"):
        largest_difference(
            questions["embeddings"], {"above": questions["embeddings"], "inside": questions["embeddings"] * 1.01}
        )
    assert largest_difference(questions["embeddings"], {"inside": questions["embeddings"] + 1e-6}) == pytest.approx(
        1e-6, rel=0.1
    )
    (
        spoiled / "exported/config.json"
    ).unlink()  # then it opens from elsewhere, but not as the README says for inside it
    (spoiled / "config.json").unlink()
    with pytest.raises(ExportMismatch, match="could not open the exported folder"):
        reloaded_embeddings(spoiled, tmp_path, questions)


def test_the_way_in_fits_the_model(clip, exported, tmp_path):
    assert how_to_open(exported).startswith("opens as open_clip.create_model_and_transforms('local-dir:exported') in ")
    tiny_clip = named(str(tiny_architecture(tmp_path)))
    folder = tmp_path / "own"
    folder.mkdir()
    write_folder(tiny_clip, folder, "0" * 64)
    assert how_to_open(folder) == f"opens as open_clip.create_model_and_transforms('local-dir:{folder}')"
    assert "hf_model_name" not in (folder / "README.md").read_text()
    assert open_clip.PLAIN in (folder / "README.md").read_text()


def test_a_description_with_its_files_is_enough_to_build_the_model_again(clip):
    again = from_description(clip.model_cfg, clip.preprocess, clip.text_files, "tiny-hf", "card")
    again.model.load_state_dict(clip.model.state_dict())
    assert again.tokenizer_identity == clip.tokenizer_identity
    assert torch.equal(again.tokenizer(["a b c"]), clip.tokenizer(["a b c"]))
