"""From a CLIP trained here to an answer in stock transformers: every stage by its own command, small."""

import json

import pytest
import torch

from medvlp.builders import load_assistant, load_clip
from medvlp.export.equality import probe_image
from medvlp.export.model_card import lineage
from medvlp.models.towers.clip_checkpoint import tower_from_clip
from medvlp.models.weights import weights_hash
from medvlp.terminal import harmless
from medvlp.verbs.models.ask import NOTICE
from medvlp.verbs.models.ask import main as ask
from medvlp.verbs.models.export import main as export
from tests.assistants import assistant_words, tiny_clip_checkpoint
from tests.datasets import pairs, write_split
from tests.distributed.ranks import run_script
from tests.runs import losses, run_here, weights

STOCK = """
import json, sys, torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder, picture, question = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder).eval()
processor = AutoProcessor.from_pretrained(folder, backend="pil")
parts = [{"type": "image", "image": Image.open(picture)}, {"type": "text", "text": question}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
made = model.generate(**inputs, max_new_tokens=24)[0, inputs["input_ids"].shape[1]:]
text = processor.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
print(json.dumps({"text": text, "medvlp": "medvlp" in sys.modules, "images": inputs["pixel_values"].shape[0]}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """clip → align (projector alone, on captions) → instruct (language model and projector, on questions)."""
    made = tmp_path_factory.mktemp("path")
    tiny_clip_checkpoint(made / "clip", steps=2)
    write_split(made / "captions/train", pairs(16))
    assert run_here([*align(made), "run_name=align", "trainer.max_steps=4"]) == 0
    assert run_here([*instruct(made), "run_name=instruct", "trainer.max_steps=12"]) == 0
    return made


@pytest.fixture(scope="module")
def exported(folder):
    """The instruct run as a folder for transformers; export has compared the answers."""
    checkpoint = f"checkpoint={folder}/runs/instruct/checkpoints/last.ckpt"
    assert export([checkpoint, "format=hf", f"output={folder}/exported"]) == 0
    assert json.loads((folder / "exported/medvlp_boxes.json").read_text()) == {"box_form": "shares", "box_words": True}
    return folder / "exported"


def stage(folder) -> list[str]:
    return [
        *assistant_words(folder),
        f"model.vision.source={folder}/clip/runs/clip/checkpoints/last.ckpt",
        "optim.lr=1e-2",
        "optim.parts.vision.freeze=true",
    ]


def align(folder) -> list[str]:
    return [
        *[word for word in stage(folder) if not word.startswith("data.sources.")],
        f"data.sources.captions.path={folder}/captions/train",
        "data.sources.captions.caption_prompts=[What does the image show?,Describe the image.]",
        "optim.parts.language.freeze=true",
    ]


def instruct(folder, start: str = "runs/align/checkpoints/last.ckpt") -> list[str]:
    return [*stage(folder), f"init_from={folder}/{start}"]


def part(tensors: dict[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    assert first.keys() == second.keys()
    assert first
    return all(torch.equal(first[name], second[name]) for name in first)


def test_each_stage_teaches_its_parts_and_leaves_the_others(folder):
    eye = tower_from_clip(load_clip(folder / "clip/runs/clip/checkpoints/last.ckpt").clip)
    tower = {f"model.vision_tower.{name}": tensor for name, tensor in eye.model.state_dict().items()}
    assert run_here([*align(folder), "run_name=fresh", "trainer.max_steps=1", "optim.lr=0"]) == 0
    fresh, aligned, final = (weights(folder / "runs" / name) for name in ("fresh", "align", "instruct"))
    words, projector, vision = (
        ("model.language_model.", "lm_head."),
        "model.multi_modal_projector.",
        "model.vision_tower.",
    )
    assert same(part(aligned, vision), tower)
    assert same(part(final, vision), tower)
    assert same(part(aligned, *words), part(fresh, *words))
    assert not same(part(aligned, projector), part(fresh, projector))
    assert not same(part(final, *words), part(aligned, *words))
    assert not same(part(final, projector), part(aligned, projector))
    assert losses(folder / "runs/align")[-1] < losses(folder / "runs/align")[0]
    assert losses(folder / "runs/instruct")[-1] < losses(folder / "runs/instruct")[0]


def test_the_next_stage_starts_from_every_tensor_of_the_former(folder):
    assert run_here([*instruct(folder), "run_name=started", "trainer.max_steps=1", "optim.lr=0"]) == 0
    assert same(weights(folder / "runs/started"), weights(folder / "runs/align"))


@pytest.mark.parametrize(
    ("part", "name", "damage"),
    [
        ("vision", "model.vision_tower.encoder.layers.1.mlp.fc2.bias", "missing"),
        ("projector", "model.multi_modal_projector.linear_2.weight", "other shape"),
        ("language", "model.language_model.norm.weight", "missing"),
    ],
)
def test_a_former_stage_that_lacks_a_tensor_is_refused(folder, part, name, damage, capsys):
    content = torch.load(folder / "runs/align/checkpoints/last.ckpt", weights_only=True)
    if damage == "missing":
        del content["state_dict"][name]
    else:
        content["state_dict"][name] = content["state_dict"][name][:-1]
    content["medvlp"]["weights_sha256"] = weights_hash(content["state_dict"])  # as one who means it would write it
    torch.save(content, folder / "damaged.ckpt")
    for chosen in ([], [f"init_parts=[{part}]"]):
        refused = [*instruct(folder, "damaged.ckpt"), "run_name=refused", "trainer.max_steps=1", *chosen]
        assert run_here(refused) == 1
        assert f"{damage} ['{name}']" in capsys.readouterr().err
    others = ",".join({"vision", "projector", "language"} - {part})
    spared = [*instruct(folder, "damaged.ckpt"), f"run_name=spared-{part}-{damage[:5]}", f"init_parts=[{others}]"]
    assert run_here([*spared, "trainer.max_steps=1", "optim.lr=0"]) == 0


def test_stock_transformers_says_what_ask_says(folder, exported, tmp_path, capsys):
    checkpoint, question = f"checkpoint={folder}/runs/instruct/checkpoints/last.ckpt", "Is the heart enlarged?"
    probe_image(5).save(tmp_path / "chest.png")
    capsys.readouterr()
    assert ask([checkpoint, f"image={tmp_path}/chest.png", "max_new_tokens=24", "accelerator=cpu", question]) == 0
    said = capsys.readouterr().out.removesuffix(f"\n{NOTICE}\n")
    printed = run_script(STOCK, str(exported), str(tmp_path / "chest.png"), question, folder=tmp_path)
    stock = json.loads(printed.splitlines()[-1])
    assert (stock["medvlp"], stock["images"]) == (False, 1)
    assert said == harmless(stock["text"])
    assert said.strip()


def test_the_card_names_the_data_of_every_stage(folder, exported):
    config = load_assistant(folder / "runs/instruct/checkpoints/last.ckpt").config
    trained_from = lineage(config, {})
    assert [run.run_name for run in trained_from.runs] == ["instruct", "align", "clip"]
    card = (exported / "README.md").read_text()
    for row in (
        "| instruct | made | CC0-1.0 (24) |",
        "| align | captions | CC0-1.0 (16) |",
        "| clip | made | CC0-1.0 (8) |",
    ):
        assert row in card
    config.init_from = str(folder / "gone/checkpoints/last.ckpt")
    assert lineage(config, {}).lost == [config.init_from]
