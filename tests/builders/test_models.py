"""Models by name: their kind, the identity of their content, and that open_clip's are open_clip's own."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

import medvlp
from medvlp.boxes.forms import BoxStyle
from medvlp.boxes.views import Geometry
from medvlp.builders import build_objective, init_from
from medvlp.builders.audit import encoder_without_weights
from medvlp.builders.clip import clip_named
from medvlp.builders.data import open_source
from medvlp.builders.llava import encoder_identity, library_reference, load_assistant, vision_tower
from medvlp.builders.models import identity_of, model_kind_of, open_model, origin_of
from medvlp.config import CacheConfig, ConfigError, EvalConfig, TowerConfig, compose
from medvlp.config.model_names import parse_model_name
from medvlp.export.assistant import write_box_style
from medvlp.export.open_clip import write_folder
from medvlp.export.transformers import write_assistant
from medvlp.models.clip.sources import named
from medvlp.models.weights import WeightsError, weights_hash
from medvlp.training.checkpoints import CheckpointError
from tests.models.tiny import tiny_architecture

CONFIG = EvalConfig(checkpoints=["x"], tasks=["x"], batch_size=2, workers=0)


@pytest.fixture(scope="module")
def exported(clip_words, tmp_path_factory):
    """A tiny CLIP as a folder in open_clip's format, of the architecture of `clip_words`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    clip = named(compose("train", clip_words).model.name)
    clip.model.eval()
    (folder / "exported").mkdir()
    write_folder(clip, folder / "exported", "0" * 64)
    return folder / "exported"


def saved_checkpoint(path, words):
    """A checkpoint of an untrained model."""
    torch.manual_seed(7)
    module = build_objective(compose("train", words)).module
    content = {"state_dict": module.state_dict(), "global_step": 5}
    module.on_save_checkpoint(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def test_every_device_of_a_kind_shares_the_stores_entries(exported, clip_words, tmp_path):
    """Ranks that share a machine have cuda:0, cuda:1, …; here the device with a number is the processor."""
    checkpoint = saved_checkpoint(tmp_path / "a.ckpt", clip_words)
    for text in (f"open_clip:{exported}", str(checkpoint)):
        model = open_model(parse_model_name(text), "cpu:0", CONFIG)
        assert model.encoder.execution == "cpu float32"
        assert model.encoder.encoder.execution == "cpu float32"
        assert len(model.texts(["a scan"])) == 1


def test_a_folder_gives_open_clips_own_embeddings(exported):
    name = parse_model_name(f"open_clip:{exported}")
    assert model_kind_of(name).offers == ("encode_image", "encode_text")
    encoder = open_model(name, "cpu", CONFIG).encoder
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{exported}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{exported}")
    pixels, texts = torch.randn(2, 3, 32, 32), ["a chest X-ray", "a scan of the liver"]
    with torch.no_grad():
        assert torch.equal(encoder.encode_image(pixels), model.eval().encode_image(pixels, normalize=True))
        theirs = model.encode_text(tokenizer(texts), normalize=True)
    assert torch.allclose(encoder.encode_text(texts), theirs, atol=1e-6)
    assert str(encoder.transform) == str(transform)


def test_identity_is_of_content_not_of_names(exported, tmp_path):
    copy = tmp_path / "a copy"
    shutil.copytree(exported, copy)
    assert identity_of(parse_model_name(f"open_clip:{copy}")) == identity_of(parse_model_name(f"open_clip:{exported}"))
    identities = {identity_of(parse_model_name(f"open_clip:{exported}"))}
    weights = copy / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    identities.add(identity_of(parse_model_name(f"open_clip:{copy}"), tmp_path))
    config = copy / "open_clip_config.json"
    description = json.loads(config.read_text())
    description["preprocess_cfg"]["interpolation"] = "bilinear"
    config.write_text(json.dumps(description))
    identities.add(identity_of(parse_model_name(f"open_clip:{copy}"), tmp_path))
    assert len(identities) == 3


def test_random_weights_are_the_same_each_time(tmp_path):
    name = parse_model_name(f"open_clip:{tiny_architecture(tmp_path)}")
    state = torch.random.get_rng_state()
    encoders = [open_model(name, "cpu", CONFIG).encoder for _ in range(2)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert encoders[0].identity == encoders[1].identity
    assert identity_of(name) == identity_of(name)


def test_a_folder_without_weights_is_not_a_random_model(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(WeightsError, match="no weights in the folder"):
        open_model(parse_model_name(f"open_clip:{tmp_path}/bare"), "cpu", CONFIG)


def test_checkpoints_of_equal_content_have_one_identity(clip_words, tmp_path):
    path = saved_checkpoint(tmp_path / "runs/a/checkpoints/last.ckpt", clip_words)
    shutil.copy(path, tmp_path / "step-000005.ckpt")
    name = parse_model_name(f"{tmp_path}/runs/a")
    identity = identity_of(name, tmp_path)
    assert identity_of(parse_model_name(str(tmp_path / "step-000005.ckpt"))) == identity
    assert model_kind_of(name).title == "a CLIP model"
    assert origin_of(name) == {"step": 5}

    def overwritten(change):
        content = torch.load(path, weights_only=True)
        change(content)
        content["medvlp"]["weights_sha256"] = weights_hash(content["state_dict"])
        torch.save(content, path)
        return identity_of(name, tmp_path)

    assert overwritten(lambda content: content["medvlp"]["config"].update(run_name="b", seed=9)) == identity
    changes = [
        lambda content: content["medvlp"]["preprocess"].update(interpolation="bilinear"),
        lambda content: content["medvlp"]["tokenizer"].update(sha256="0" * 64),
        lambda content: content["state_dict"]["logit_scale"].mul_(2),
    ]
    assert len({identity, *map(overwritten, changes)}) == 4  # each under the same path


@pytest.mark.parametrize("kind", ["checkpoint", "open_clip"])
def test_weights_that_are_overwritten_before_they_are_loaded_are_refused(kind, clip_words, exported, tmp_path):
    if kind == "checkpoint":
        weights = saved_checkpoint(tmp_path / "last.ckpt", clip_words)
        name = parse_model_name(str(weights))
        content = torch.load(weights, weights_only=True)
        content["state_dict"]["logit_scale"] += 1
        content["medvlp"]["weights_sha256"] = weights_hash(content["state_dict"])
        torch.save(content, tmp_path / "new")
    else:
        weights = shutil.copytree(exported, tmp_path / "folder") / "open_clip_model.safetensors"
        name = parse_model_name(f"open_clip:{weights.parent}")
        state = {key: tensor + 1 for key, tensor in load_file(weights).items()}
        save_file(state, tmp_path / "new", metadata={"format": "pt"})
    encoder = open_model(name, "cpu", replace(CONFIG, cache=CacheConfig(dir=str(tmp_path / "cache"))))
    (tmp_path / "new").replace(weights)
    with pytest.raises(WeightsError, match="was overwritten after this command had looked at it"):
        encoder.texts(["a scan"])
    assert not list((tmp_path / "cache").glob("texts/*"))


def test_an_assistants_thoughts_and_weights_are_its_identity(llava_words, tmp_path):
    path = saved_checkpoint(tmp_path / "a.ckpt", llava_words)
    name = parse_model_name(str(path))
    assert model_kind_of(name).offers == ("generate", "loglikelihood")
    identity = identity_of(name)
    content = torch.load(path, weights_only=True)
    content["medvlp"]["config"]["model"]["language"]["thoughts"] = "kept"
    torch.save(content, path)
    assert identity_of(name) != identity


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("open_clip:ViT-B-33", r"'ViT-B-33' is not one of open_clip's architectures; near it: \['ViT-B-32'"),
        ("open_clip:ViT-B-32@laion2b", "one of the architecture's tags: laion2b_e16, laion2b_s34b_b79k$"),
        ("open_clip:ViT-B-32@absent.pt", "neither a file nor"),
        ("open_clip:ViT-B-32@openai", "QuickGELU: open_clip:ViT-B-32-quickgelu@openai"),
        ("open_clip:hf-hub:some/model@main", "hf download some/model --revision main"),
    ],
)
def test_what_open_clip_does_not_have_is_named(text, message):
    for question in (model_kind_of, identity_of, lambda name: open_model(name, "cpu", CONFIG)):
        with pytest.raises(WeightsError, match=message):
            question(parse_model_name(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "open_clip:hf-hub:microsoft/BiomedCLIP",
            (
                "https://huggingface.co/microsoft/BiomedCLIP (open_clip_config.json)",
                "HF_HOME",
                "name open_clip:<folder>",
            ),
        ),
        (
            "open_clip:ViT-B-32@laion2b_s34b_b79k",
            ("https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "HF_HOME (", "hf download"),
        ),
    ],
)
def test_a_hub_that_cannot_be_reached_is_said_with_what_to_download_and_where_to_put_it(text, parts, monkeypatch):
    def refused(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", refused)
    with pytest.raises(WeightsError) as error:
        open_model(parse_model_name(text), "cpu", CONFIG)
    assert [part for part in (*parts, "no route to host", text) if part not in str(error.value)] == []


def test_a_hubs_model_is_its_files_and_never_random_weights(exported, tmp_path, monkeypatch):
    folder = tmp_path / "repository"
    shutil.copytree(exported, folder)

    def fetched(repo_id, filename, **options):
        if repo_id != "made/model" or not (folder / filename).is_file():
            raise OSError(f"404 {filename}")
        return str(folder / filename)

    monkeypatch.setattr("open_clip.pretrained.hf_hub_download", fetched)
    name = parse_model_name("open_clip:hf-hub:made/model")
    clip, _ = clip_named(name, "checkpoint")
    expected, _ = clip_named(parse_model_name(f"open_clip:{exported}"), "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(clip.model.parameters(), expected.model.parameters(), strict=True))
    identity = identity_of(name)
    assert identity == identity_of(parse_model_name(f"open_clip:{exported}"))
    (folder / "open_clip_model.safetensors").unlink()  # open_clip would warn and go on
    with pytest.raises(WeightsError, match="404"):
        open_model(name, "cpu", CONFIG)


def test_folders_that_are_no_models_are_named(exported, tmp_path):
    for name, files, message in [
        ("empty", (), "the folder has no open_clip_config.json"),
        ("hf", ("config.json",), "write hf:"),
    ]:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
        with pytest.raises(WeightsError, match=message):
            model_kind_of(parse_model_name(f"open_clip:{tmp_path}/{name}"))
    with pytest.raises(WeightsError, match="a folder has weights of its own"):
        model_kind_of(replace(parse_model_name(f"open_clip:{exported}"), revision="x.pt"))


def test_a_folder_with_a_name_of_spaces_and_a_relative_path_open(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "my model@1")
    monkeypatch.chdir(tmp_path)
    name = parse_model_name("open_clip:my model@1")
    assert name.text == "open_clip:my model@1"
    assert identity_of(name) == identity_of(parse_model_name(f"open_clip:{exported}"))


class Planted:
    """A pickle that would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "folder", ignore=shutil.ignore_patterns("*.safetensors"))
    for path in (tmp_path / "folder/open_clip_pytorch_model.bin", tmp_path / "planted.pt"):
        path.write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    architecture = tiny_architecture(tmp_path)
    for text in (f"open_clip:{tmp_path}/folder", f"open_clip:{architecture}@{tmp_path}/planted.pt"):
        with pytest.raises(WeightsError):
            open_model(parse_model_name(text), "cpu", CONFIG).texts(["a"])
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Planted(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # it would have


def test_an_architecture_without_weights_says_so(exported, tmp_path):
    assert origin_of(parse_model_name("open_clip:ViT-B-32")) == {"untrained": "random weights, seed 0"}
    random_parts = {"random_parts": "all but the text tower roberta-base, seed 0"}
    assert origin_of(parse_model_name("open_clip:roberta-ViT-B-32")) == random_parts
    assert origin_of(parse_model_name(f"open_clip:{exported}")) == {}


def test_weights_of_a_file_go_into_the_architecture(exported, tmp_path):
    path = tiny_architecture(tmp_path)
    clip, _ = clip_named(parse_model_name(f"open_clip:{path}@{exported}/open_clip_model.safetensors"), "checkpoint")
    expected, _ = clip_named(parse_model_name(f"open_clip:{exported}"), "checkpoint")
    assert all(torch.equal(a, b) for a, b in zip(clip.model.parameters(), expected.model.parameters(), strict=True))
    (tmp_path / "other.pt").write_bytes(b"")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"open_clip:.*other.pt"):
        open_model(parse_model_name(f"open_clip:{path}@{tmp_path}/other.pt"), "cpu", CONFIG).texts(["a"])


def test_load_opens_folders_by_name(exported):
    model, transform, tokenizer = medvlp.load(f"open_clip:{exported}")
    assert not model.training
    assert model.encode_text(tokenizer(["a"])).shape == (1, 16)
    assert transform.transforms[0].size == 32
    for text, message in (("api:http://h/v1#m", "expected a CLIP model"), ("nothing", "no such file or folder")):
        with pytest.raises(ConfigError, match=message):
            medvlp.load(text)


def test_load_opens_models_of_transformers(llava_words):
    source = compose("train", llava_words).model.language.source
    model, processor, tokenizer = medvlp.load(f"hf:{source}")
    assert type(model).__name__ == "LlamaForCausalLM"
    assert processor is tokenizer
    assert model(**tokenizer("a", return_tensors="pt")).logits.shape[0] == 1
    assert origin_of(parse_model_name(f"hf:{source}")) == {}


def test_a_run_starts_from_an_open_clip_model(clip_words, exported):
    module = build_objective(compose("train", [*clip_words, f"init_from=open_clip:{exported}"])).module
    expected = open_clip.create_model(f"local-dir:{exported}").state_dict()
    tensors = module.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)

    fresh = build_objective(compose("train", clip_words)).module
    former = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    init_from(fresh, fresh.parts, f"open_clip:{exported}", ["vision"], {})
    changed = {name for name, tensor in fresh.state_dict().items() if not torch.equal(tensor, former[name])}
    assert changed
    assert all(name.startswith("visual.") for name in changed)


def test_a_run_starts_from_an_exported_assistant(llava_words, tmp_path):
    path = saved_checkpoint(tmp_path / "a.ckpt", llava_words)
    trained = load_assistant(path)
    with torch.no_grad():
        for number, parameter in enumerate(trained.assistant.model.parameters()):
            parameter.add_(0.01 * (number + 1))
    (tmp_path / "exported").mkdir()
    write_assistant(trained.assistant, trained.encoder, tmp_path / "exported")
    module = build_objective(compose("train", [*llava_words, f"init_from=hf:{tmp_path}/exported"])).module
    expected = trained.assistant.model.state_dict()
    tensors = module.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_an_assistant_writes_boxes_alike_in_training_from_its_checkpoint_and_from_its_export(llava_words, tmp_path):
    words = [*llava_words, "objective.box_form=qwen2_5_vl", "objective.box_words=false"]
    config = compose("train", words)
    objective = build_objective(config)
    (name,) = config.data.sources
    styles = {"training": objective.pipeline.conversations(name, open_source(config, name)).style}
    styles["in training"] = objective.evaluated("0").box_style
    path = saved_checkpoint(tmp_path / "a.ckpt", words)
    styles["checkpoint"] = open_model(parse_model_name(str(path)), "cpu", CONFIG).box_style
    trained = load_assistant(path)
    (tmp_path / "exported").mkdir()
    write_assistant(trained.assistant, trained.encoder, tmp_path / "exported")
    write_box_style(trained.config, tmp_path / "exported")
    export = parse_model_name(f"hf:{tmp_path}/exported")
    styles["export"] = open_model(export, "cpu", CONFIG).box_style
    assert set(styles.values()) == {BoxStyle("qwen2_5_vl", Geometry("crop", 32, 32, 32), has_words=False)}
    identity = identity_of(export)
    for text, message in (
        ('{"box_form": "qwen"}', "box_form is 'qwen', expected one of shares"),
        ("[]", "no JSON object"),
    ):
        (tmp_path / "exported/medvlp_boxes.json").write_text(text)
        with pytest.raises(WeightsError, match=message):
            open_model(export, "cpu", CONFIG)
    (tmp_path / "exported/medvlp_boxes.json").unlink()
    assert open_model(export, "cpu", CONFIG).box_style.form == "shares"
    assert identity_of(export) != identity  # the form decides what is asked, so results of one are not those of another


def test_a_start_that_does_not_fit_is_refused(clip_words, llava_words, exported):
    with pytest.raises(CheckpointError, match="does not fit: missing"):
        build_objective(compose("train", [*llava_words, f"init_from=open_clip:{exported}"]))
    with pytest.raises(CheckpointError, match=r"other shape \["):
        build_objective(compose("train", [*clip_words, "model.image.size=64", f"init_from=open_clip:{exported}"]))
    with pytest.raises(ConfigError, match="no weights to begin with"):
        build_objective(compose("train", [*clip_words, "init_from=api:http://h/v1#m"]))
    with pytest.raises(WeightsError, match="in open_clip's format: write open_clip:"):
        build_objective(compose("train", [*clip_words, f"init_from=hf:{exported}"]))


def test_an_open_clip_models_image_tower_becomes_an_assistants(exported):
    tower = vision_tower(TowerConfig(source=f"open_clip:{exported}", feature_layer=-1))
    visual = open_clip.create_model(f"local-dir:{exported}").visual
    tensors = tower.model.state_dict()
    (name,) = (name for name in tensors if name.endswith("class_embedding"))
    assert torch.equal(tensors[name], visual.class_embedding)
    with pytest.raises(ConfigError, match="brings its own"):
        vision_tower(TowerConfig(source=f"open_clip:{exported}", mean=[0.0, 0.0, 0.0]))


def test_a_check_counts_tokens_of_named_parts(llava_words, exported):
    config = compose("train", llava_words).model
    plain = encoder_without_weights(config)
    vision = replace(config.vision, source=f"hf:{config.vision.source}")
    language = replace(config.language, source=f"hf:{config.language.source}")
    assert encoder_identity(
        encoder_without_weights(replace(config, vision=vision, language=language))
    ) == encoder_identity(plain)
    clip = replace(config.vision, source=f"open_clip:{exported}", feature_layer=-1)
    assert encoder_without_weights(replace(config, vision=clip)).image_tokens == (32 // 8) ** 2


def test_hf_before_a_part_says_no_more_than_its_name(llava_words):
    config = compose("train", llava_words)
    source = config.model.vision.source
    plain, prefixed = (vision_tower(TowerConfig(source=text)).identity for text in (source, f"hf:{source}"))
    assert plain == prefixed
    for text, message in (
        ("api:http://h/v1#m", "expected a model of transformers"),
        ("open_clip:ViT-B-32", "expected a model of transformers"),
    ):
        with pytest.raises(ConfigError, match=message):
            library_reference(text, "model.language.source")


def test_a_servers_kept_answers_are_told_with_their_day(tmp_path, capsys):
    config = replace(CONFIG, cache=CacheConfig(dir=str(tmp_path / "cache")))
    name = parse_model_name("api:http://127.0.0.1:9/v1#m")
    model = open_model(name, "cpu", config)
    assert capsys.readouterr().err == ""
    model.log.add({"k": {"text": "yes"}})
    again = open_model(name, "cpu", config)
    day = again.log.first_day
    assert len(day) == len("2026-11-29")
    assert (
        f"note: {name.text}: 1 answers are kept (the first of {day}) and are not asked for again"
        in capsys.readouterr().err
    )
