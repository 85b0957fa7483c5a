"""Contrastive training on the frozen image tower's features from a folder."""

import pytest
import torch

from medvlp.builders import build_data, build_objective
from medvlp.config import ConfigError, compose
from medvlp.data.images.decode import decode_image
from medvlp.models.weights import WeightsError
from medvlp.shards import ShardDataset
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture, tiny_text_tower
from tests.runs import equal, losses, run_here, tiny_words, weights

FROZEN = "optim.parts.vision.freeze=true"
WHOLE = [FROZEN, "optim.parts.vision_head.freeze=true"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("cached")
    write_split(made / "made/train", pairs(20))
    tiny_architecture(made)
    tiny_text_tower(made / "text")
    return made


def words_of(folder, towers, cache):
    words = [*tiny_words(folder), f"objective.feature_cache={folder}/{cache}", "data.global_batch_size=4"]
    if towers == "open_clip":
        return [*words, *WHOLE]
    timm = ["model=clip_schema", "model.vision.timm=test_vit", f"model.text.huggingface={folder}/text"]
    return [*words[2:], *timm, "model.image.size=160", "model.text.context_length=32", "model.embed_dim=8", FROZEN]


@pytest.mark.parametrize("towers", ["open_clip", "timm"])
def test_embeddings_are_those_of_the_tower(folder, towers):
    """All of open_clip's tower is kept; of timm's the trunk, while its head learns."""
    config = compose("train", words_of(folder, towers, towers))
    objective = build_objective(config)
    module, data = objective.module, build_data(config, objective.pipeline)
    data.prepare_data()
    data.setup()
    batch = data.pipeline.collate([data.samples[request] for request in data_requests(data)])
    shards, clip = ShardDataset(folder / "made/train"), objective.evaluated("now").encoder.clip
    rows = {shards.key(row): row for row in range(len(shards))}
    images = [next(iter(shards.read(rows[key]).images.values())) for key in batch.keys]
    pixels = torch.stack([clip.transform(decode_image(image, 10**6)) for image in images])
    expected = torch.nn.functional.normalize(clip.model.encode_image(pixels), dim=-1)
    assert torch.allclose(module.encode(batch)["image_BD"], expected, atol=1e-6)
    assert batch.images_BCHW.numel() == 0
    assert data.samples.sources[0][1].read(0).images == {}
    loss = module.loss(batch)[0]
    loss.backward()
    learning = {name.split(".")[0] for name, p in module.model.named_parameters() if p.grad is not None}
    assert ("visual" in learning) == (towers == "timm")


def data_requests(data):
    from medvlp.data.plan import RankSchedule

    return next(RankSchedule(data.plan, 4).requests(0, 1))


def test_runs_go_on_from_the_cache_and_refuse_a_stale_one(folder, capsys):
    words = [*words_of(folder, "open_clip", "runs-cache"), "trainer.max_steps=4", "trainer.checkpoint_every=2"]
    assert run_here([*words, "run_name=first"]) == 0
    assert "features of 20 samples are computed once" in capsys.readouterr().out
    later = [*words, "run_name=later", f"init_from={folder}/runs/first/checkpoints/step-000004.ckpt"]
    assert run_here([*later, "seed=7"]) == 0  # the tower is init_from's, whatever the seed had made
    resume = f"resume={folder}/runs/first/checkpoints/step-000002.ckpt"
    assert run_here([*words, "run_name=resumed", resume]) == 0
    assert "computed once" not in capsys.readouterr().out
    assert losses(folder / "runs/resumed") == losses(folder / "runs/first")[2:]
    assert equal(weights(folder / "runs/resumed"), weights(folder / "runs/first"))
    assert run_here([*words, "run_name=other", "seed=7"]) == 1
    assert "features made with another image tower. Delete the folder" in capsys.readouterr().err
    assert run_here([*words, "run_name=other", "model.image.mean=[0.1,0.2,0.3]"]) == 1
    assert "features made with another transform" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (["optim.parts.vision.freeze=false"], ConfigError, "so the tower must not learn"),
        (["data.augment.scale=[0.5,1.0]"], ConfigError, r"data\.augment has no effect"),
        (
            ["optim.parts.vision_head.freeze=false"],
            WeightsError,
            r"set optim\.parts\.vision_head\.freeze=true, or take",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(folder, change, kind, said):
    with pytest.raises(kind, match=said):
        build_objective(compose("train", [*words_of(folder, "open_clip", "never"), *change]))
