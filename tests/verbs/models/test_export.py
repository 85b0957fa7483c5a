"""Assistants as folders for stock transformers, and the gate in front of them."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

import medvlp
from medvlp.builders import load_assistant
from medvlp.export.equality import ExportMismatch, check_folder, probe_image, probe_results
from medvlp.export.transformers import end_tokens, llava_processor, write_assistant
from medvlp.models.llava.generate import BatchedGenerator
from medvlp.shards import Turn
from medvlp.verbs.models.export import main as export
from tests.assistants import assistant_words, tiny_clip_checkpoint
from tests.distributed.ranks import finish_script, run_script
from tests.runs import run_here

LORA = ["model.lora.rank=4", "model.lora.dropout=0.1"]
SHORT = ["trainer.max_steps=3", "trainer.log_every=3"]


@pytest.fixture(scope="module", autouse=True)
def forked_gate():
    """The gate asks stock transformers in a fork that knows nothing of us; in a new interpreter elsewhere, as users do."""

    def run(command, env, **streams):
        assert command[:3] == [sys.executable, "-P", "-c"]
        status, said = finish_script(*command[3:], environment=env)
        return subprocess.CompletedProcess(command, status, said, said)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medvlp.export.equality.subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, forked_gate):
    """Checkpoints: plain (Llama), lora (Qwen2, adapters that learned), and the folder that was made of plain."""
    made = tmp_path_factory.mktemp("export")
    assert run_here([*assistant_words(made), *SHORT, "run_name=plain"]) == 0
    assert run_here([*assistant_words(made, "qwen2"), *SHORT, *LORA, "optim.lr=2e-2", "run_name=lora"]) == 0
    assert export([f"checkpoint={made}/runs/plain/checkpoints/last.ckpt", "format=hf", f"output={made}/plain"]) == 0
    return made


def checkpoint(folder, name: str) -> str:
    return f"{folder}/runs/{name}/checkpoints/last.ckpt"


def conversation(images: int) -> tuple[list[Turn], list[dict]]:
    """The same turns for our encoder, and as messages."""
    turns = [
        Turn("user", "<image>\n" * images + "Is the left lung enlarged?"),
        Turn("assistant", "yes"),
        Turn("user", "Where is the lesion?"),
    ]
    return turns, [{"role": turn.role, "content": turn.text} for turn in turns]


@pytest.mark.parametrize("images", [1, 2])
def test_stock_transformers_computes_the_checkpoints_logits(folder, images):
    loaded = load_assistant(checkpoint(folder, "plain"))
    model = AutoModelForImageTextToText.from_pretrained(folder / "plain").eval()
    processor = AutoProcessor.from_pretrained(folder / "plain", backend="pil")
    turns, messages = conversation(images)
    pictures = [probe_image(number + 7) for number in range(images)]
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    inputs = processor(images=pictures, text=text, return_tensors="pt")
    ids = loaded.encoder.prompt(turns, images)
    assert inputs["input_ids"].tolist() == [ids.tolist()]
    pixels = loaded.assistant.processor(pictures, return_tensors="pt")["pixel_values"]
    assert torch.equal(inputs["pixel_values"], pixels)
    with torch.no_grad():
        theirs = model(**inputs).logits
        ours = loaded.assistant.model(input_ids=torch.from_numpy(ids)[None], pixel_values=pixels).logits
        made = model.generate(**inputs, max_new_tokens=20)
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    (answer,) = BatchedGenerator(loaded.assistant, end_tokens(loaded.assistant, loaded.encoder)).generate(
        [(ids, pixels)], 20
    )
    assert processor.decode(made[0, len(ids) :], skip_special_tokens=True) == answer


def test_names_settings_and_card_are_the_hubs(folder):
    out = folder / "plain"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "medvlp_boxes.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    names = load_file(out / "model.safetensors").keys()
    towers = {name for name in names if name.startswith("vision_tower.")}
    assert towers
    assert all(name.startswith("vision_tower.vision_model.") for name in towers)
    assert "multi_modal_projector.linear_1.weight" in names
    generation = json.loads((out / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert generation["do_sample"] is False
    assert generation["eos_token_id"] == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert tokenizer.padding_side == "left"
    for path in out.iterdir():
        assert str(folder) not in path.read_bytes().decode("utf-8", "replace"), path
    card = (out / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["pipeline_tag"] == "image-text-to-text"
    assert header["tags"][:2] == ["medical", "llava"]
    loaded = load_assistant(checkpoint(folder, "plain"))
    for words in (
        "| plain | made | CC0-1.0 (24) |",
        loaded.weights_sha256,
        "Research use only; not for clinical use.",
        "| Language model | llama (local) |",
        "the same 24 greedy tokens",
    ):
        assert words in card


def test_the_cards_snippet_runs(folder):
    code = re.search(r"```python\n(.*?)```", (folder / "plain/README.md").read_text(), re.DOTALL)[1]
    script = (
        "import contextlib, io, sys\nwith contextlib.redirect_stdout(io.StringIO()) as said:\n"
        f"{textwrap.indent(code, '    ')}\nprint('said', bool(said.getvalue().strip()), 'medvlp' in sys.modules)\n"
    )
    assert run_script(script, folder=folder / "plain").splitlines()[-1] == "said True False"


def test_adapters_are_merged_or_kept_apart_and_compute_the_same(folder, capsys):
    source = f"checkpoint={checkpoint(folder, 'lora')}"
    assert export([source, "format=hf", f"output={folder}/merged"]) == 0
    assert export([source, "format=hf", "adapter=separate", f"output={folder}/apart"]) == 0
    assert "greedy answers are identical" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "apart/adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    loaded = load_assistant(checkpoint(folder, "lora"))
    ids = torch.from_numpy(loaded.encoder.prompt([Turn("user", "Is it small?")], 0))[None]
    merged = AutoModelForImageTextToText.from_pretrained(folder / "merged").eval()
    base = AutoModelForImageTextToText.from_pretrained(folder / "apart").eval()
    assert not any("lora" in name or "base_layer" in name for name in merged.state_dict())
    with torch.no_grad():
        trained, plain = loaded.assistant.model(input_ids=ids).logits, base(input_ids=ids).logits
        apart = PeftModel.from_pretrained(base, folder / "apart/adapter").eval()
        torch.testing.assert_close(merged(input_ids=ids).logits, trained, atol=1e-5, rtol=0)
        torch.testing.assert_close(apart(input_ids=ids).logits, trained, atol=1e-5, rtol=0)
    assert (plain - trained).abs().max() > 1e-2  # the adapters had something to say
    assert "merged into the language model" in (folder / "merged/README.md").read_text()
    assert 'PeftModel.from_pretrained(model, f"{folder}/adapter")' in (folder / "apart/README.md").read_text()


def damage_json(name: str, change):
    def damage(folder) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def damage_weights(folder) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias"] += 0.01
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def damage_template(folder) -> None:
    template = (folder / "chat_template.jinja").read_text()
    assert "'<|im_end|>'" in template
    (folder / "chat_template.jinja").write_text(template.replace("'<|im_end|>'", "'<|im_end|>\\n'"))


DAMAGES = {
    "weights": (damage_weights, "one question: logits differ by up to"),
    "template": (damage_template, "a second question: the folder's processor makes other tokens"),
    "tokens": (
        damage_json("processor_config.json", lambda c: c.update(num_additional_image_tokens=2)),
        "could not open the exported folder|makes other tokens of it",
    ),
    "pixels": (
        damage_json("processor_config.json", lambda c: c["image_processor"].update(image_mean=[0.4, 0.45, 0.4])),
        "one question: logits differ by up to",
    ),
    "generation": (
        damage_json("generation_config.json", lambda c: c.update(repetition_penalty=3.0)),
        r"one question: the answer is '.*', the trained model's '.*'",
    ),
    "config": (lambda folder: (folder / "config.json").write_text("{"), "could not open the exported folder: "),
}


@pytest.fixture(scope="module")
def asked(folder):
    loaded = load_assistant(checkpoint(folder, "plain"))
    return probe_results(loaded.assistant, loaded.encoder)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", sorted(DAMAGES))
def test_the_gate_says_what_a_damaged_folder_differs_in(folder, asked, tmp_path, damaged):
    damage, said = DAMAGES[damaged]
    copy = tmp_path / "copy"
    shutil.copytree(folder / "plain", copy)
    damage(copy)
    with pytest.raises(ExportMismatch, match=said):
        check_folder(copy, tmp_path, asked)


def test_nothing_is_kept_of_what_the_gate_refuses(folder, monkeypatch, capsys):
    def spoiled(assistant, encoder, out, separate):
        write_assistant(assistant, encoder, out, separate)
        damage_weights(out)

    monkeypatch.setattr("medvlp.export.assistant.write_assistant", spoiled)
    before = sorted(os.listdir(folder))
    assert export([f"checkpoint={checkpoint(folder, 'plain')}", "format=hf", f"output={folder}/spoiled"]) == 1
    assert "logits differ by up to" in capsys.readouterr().err
    assert sorted(os.listdir(folder)) == before


def test_what_cannot_be_exported_is_refused_with_the_reason(folder, tmp_path, capsys):
    def refused(name: str, *words: str) -> str:
        assert export([f"checkpoint={checkpoint(folder, name)}", f"output={tmp_path}/out", *words]) == 1
        assert not (tmp_path / "out").exists()
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    assert run_here([*assistant_words(folder), *SHORT, "model.reduce.kind=average_pool", "run_name=reduced"]) == 0
    tiny_clip_checkpoint(folder)
    assert "a token reducer (average_pool, factor 2)" in refused("reduced", "format=hf")
    assert "the checkpoint has no LoRA adapters" in refused("plain", "format=hf", "adapter=separate")
    assert "holds an assistant, which is exported with format=hf" in refused("plain", "format=open_clip")
    assert "holds a CLIP model, which is exported with format=open_clip" in refused("clip", "format=hf")
    assert "Choices: open_clip, transformers, onnx, hf" in refused("plain", "format=gguf")
    assert "Choices: merged, separate" in refused("plain", "format=hf", "adapter=both")
    assert "adapter=separate is for assistants" in refused("clip", "adapter=separate")
    assert "no such file" in refused("absent", "format=hf")
    assert "exists; name a new folder" in refused_output(folder, capsys)


def refused_output(folder, capsys) -> str:
    assert export([f"checkpoint={checkpoint(folder, 'plain')}", "format=hf", f"output={folder}/plain"]) == 1
    return capsys.readouterr().err


def test_a_tokenizer_that_adds_tokens_adds_none_beside_the_template(folder):
    loaded = load_assistant(checkpoint(folder, "plain"))
    tokenizer = loaded.assistant.tokenizer
    start = tokenizer.convert_tokens_to_ids("<pad>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<pad> $A", special_tokens=[("<pad>", start)]
    )
    assert tokenizer("a")["input_ids"][0] == start
    processor = llava_processor(loaded.assistant, loaded.encoder)
    turns, messages = conversation(1)
    text = processor.apply_chat_template(messages, add_generation_prompt=True)
    made = processor(images=probe_image(0), text=text)["input_ids"]
    assert made == [loaded.encoder.prompt(turns, 1).tolist()]
    assert tokenizer("a")["input_ids"][0] == start  # the assistant's own is as it was


def test_load_gives_an_assistant_ready_for_use_one_by_one_or_in_batches(folder):
    model, processor, tokenizer = medvlp.load(checkpoint(folder, "plain"))
    loaded = load_assistant(checkpoint(folder, "plain"))
    generator = BatchedGenerator(loaded.assistant, end_tokens(loaded.assistant, loaded.encoder))
    turns = [conversation(1), ([Turn("user", "<image>\nNo?")], [{"role": "user", "content": "<image>\nNo?"}])]
    pictures = [probe_image(number) for number in (3, 4)]
    texts = [processor.apply_chat_template(messages, add_generation_prompt=True) for _, messages in turns]
    batch = processor(images=pictures, text=texts, padding=True, return_tensors="pt")
    assert not model.training
    made = model.generate(**batch, max_new_tokens=12)[:, batch["input_ids"].shape[1] :]
    jobs = [
        (loaded.encoder.prompt(turns_of_job, 1), batch["pixel_values"][number : number + 1])
        for number, (turns_of_job, _) in enumerate(turns)
    ]
    assert len(jobs[0][0]) != len(jobs[1][0])
    assert tokenizer.batch_decode(made, skip_special_tokens=True) == generator.generate(jobs, 12)
