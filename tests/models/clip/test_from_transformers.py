"""transformers' CLIP as a starting point gives the same embeddings in open_clip's classes."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from medvlp.builders import build_objective, init_from
from medvlp.config import compose
from medvlp.models.weights import WeightsError, load_tensors
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import tiny_words

SIZES = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("from_transformers")
    write_split(made / "made/train", pairs(8))
    tiny_architecture(made)
    torch.manual_seed(3)
    for act in ("gelu", "quick_gelu"):
        text = {**SIZES, "vocab_size": 49408, "max_position_embeddings": 24, "hidden_act": act, "eos_token_id": 49407}
        vision = {**SIZES, "image_size": 32, "patch_size": 8, "hidden_act": act}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        CLIPModel(config).save_pretrained(made / act)
    return made


def test_embeddings_are_the_same(folder):
    objective = build_objective(compose("train", tiny_words(folder)))
    module = objective.module
    init_from(module, module.parts, f"hf:{folder}/gelu", [], objective.metadata)
    theirs = CLIPModel.from_pretrained(folder / "gelu").eval()
    images, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[49406, 5, 9, 49407], [49406, 7, 49407, 0]])
    tokens = torch.nn.functional.pad(tokens, (0, 20))
    with torch.no_grad():
        image_BD, text_BD = theirs.get_image_features(pixel_values=images), theirs.get_text_features(input_ids=tokens)
        image_BD, text_BD = (getattr(value, "pooler_output", value) for value in (image_BD, text_BD))
        assert torch.allclose(module.model.eval().encode_image(images), image_BD, atol=1e-5)
        assert torch.allclose(module.model.encode_text(tokens), text_BD, atol=1e-5)
    assert float(module.model.logit_scale) == pytest.approx(float(theirs.logit_scale))


def test_another_activation_is_refused(folder):
    objective = build_objective(compose("train", tiny_words(folder)))
    with pytest.raises(WeightsError, match=r"computes with quick_gelu, .*ends in -quickgelu"):
        init_from(objective.module, objective.module.parts, f"hf:{folder}/quick_gelu", [], objective.metadata)


def test_programs_and_prefixes_are_refused_in_words(folder, tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(traced, tmp_path / "openai.pt")
    with pytest.raises(WeightsError, match="TorchScript archive, which is a program"):
        load_tensors(str(tmp_path / "openai.pt"))
    with pytest.raises(WeightsError, match="TorchScript archive, which is a program"):
        build_objective(compose("train", [*tiny_words(folder), f"model.pretrained={tmp_path}/openai.pt"]))
    torch.save({f"module.{n}": t for n, t in torch.nn.Linear(2, 2).state_dict().items()}, tmp_path / "parallel.pt")
    with pytest.raises(WeightsError, match=r"begin with 'module.', as torch's DataParallel"):
        load_tensors(str(tmp_path / "parallel.pt"))
