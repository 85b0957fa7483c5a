"""The loss of packed conversations and its gradients are those of each conversation alone in stock transformers."""

import io
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.pipeline import prepare
from medvlp.builders import build_data, build_objective, optimizer_settings
from medvlp.config import OptimConfig, compose
from medvlp.data.plan import RankSchedule
from medvlp.shards import ShardDataset
from medvlp.training.objectives.instruction import Instruction
from tests.assistants import assistant_words, stock_losses, tiny_assistant
from tests.data.chat.packed import IMAGE_ID, collate, rows_of

PARTS = [("llama", "clip"), ("qwen2", "clip"), ("llama", "test_efficientnet"), ("qwen2", "test_resnet")]
# Shrinking takes minutes with a model inside; `data/test_packing.py` finds the small cases.
SOME = settings(
    deadline=None,
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


class Trainer:
    """What the loss asks of Lightning's."""

    def __init__(self, world_size=1, accumulate=1):
        self.world_size, self.accumulate_grad_batches = world_size, accumulate


def instruction(assistant, frozen=(), world_size=1, accumulate=1):
    settings = optimizer_settings(OptimConfig())
    side = assistant.model.config.vision_config.image_size
    module = Instruction(assistant.model, assistant.parts, settings, 0, (1, 3, side, side))
    module.eval()  # batch norm: its statistics over a batch would depend on what shares it
    module.stub = Trainer(world_size, accumulate)  # Lightning keeps a weak reference only
    module.trainer = module.stub
    return module


@pytest.fixture(scope="module", params=PARTS, ids="-".join)
def assistant(request, tmp_path_factory):
    family, tower = request.param
    made = tiny_assistant(tmp_path_factory.mktemp("parts"), family, tower)
    made.model.config.image_token_id = IMAGE_ID  # as in tests.data.chat.packed
    assert made.image_tokens == 4
    return made


def gradients(model, loss, keep=False):
    """By name, of all that learns; an image's projector has none where no image is."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    gradients_of_parameters = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=keep)
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named, gradients_of_parameters, strict=True)
    }


def furthest(ours, theirs):
    """The largest relative distance of a parameter's gradient; one below a hundredth of all is compared with that."""
    assert ours.keys() == theirs.keys()
    whole = torch.stack([g.double().norm() for g in theirs.values()]).norm()
    distances = {
        name: float((ours[name].double() - g.double()).norm() / torch.maximum(g.double().norm(), 1e-2 * whole))
        for name, g in theirs.items()
    }
    return max(distances.values())


def stock_step(model, rows, weighting):
    """The loss of all items, conversation by conversation."""
    losses, counts = [], []
    for item in (item for row in rows for item in row):
        losses += stock_losses(model, item["conversations"], item["images"].to(model.dtype))
        counts += [int(conversation.supervised.sum()) for conversation in item["conversations"]]
    if weighting == "token":
        return torch.stack(losses).sum() / sum(counts)
    return torch.stack([loss / count for loss, count in zip(losses, counts, strict=True)]).mean()


def compared(assistant, rows, tree, weighting):
    """Relative distance of the loss, and the largest of a gradient, between packed and unpacked."""
    model = assistant.model
    side = model.config.vision_config.image_size
    for item in (item for row in rows for item in row):
        if len(item["images"]):  # the strategy draws 2 × 2 pixels
            item["images"] = torch.nn.functional.interpolate(item["images"], size=(side, side), mode="nearest")
    ours, values = instruction(assistant).loss(collate(rows, tree, weighting))
    theirs = stock_step(model, rows, weighting)
    apart = furthest(gradients(model, ours), gradients(model, theirs))
    assert values == {"supervised_tokens": supervised_in(rows)}
    return abs(ours.item() - theirs.item()) / theirs.item(), apart


def supervised_in(rows):
    return sum(
        int(conversation.supervised.sum()) for row in rows for item in row for conversation in item["conversations"]
    )


@SOME
@given(rows_of(most_rows=2, most_items=2), st.booleans(), st.sampled_from(["token", "sample"]))
def test_random_conversations_packed_are_what_they_are_alone(assistant, rows, tree, weighting):
    loss, gradient = compared(assistant, rows, tree, weighting)
    assert loss < 1e-6
    assert gradient < 1e-5


# --- real questions, from the publisher's files through shards, lengths, plan and loader to the loss --------------------

IMAGES = 4


@pytest.fixture(scope="module")
def vqa_rad(test_data, tmp_path_factory):
    """Shards of a few VQA-RAD images with all their questions of the training set."""
    folder = tmp_path_factory.mktemp("vqa_rad")
    (folder / "in/images").mkdir(parents=True)
    entries = json.loads((test_data / "vqa_rad/trainset.json").read_text(encoding="utf-8"))
    names = sorted({entry["image_name"] for entry in entries})[:IMAGES]
    for name in names:
        shutil.copy(test_data / "vqa_rad/images" / name, folder / "in/images")
    chosen = [entry for entry in entries if entry["image_name"] in names]
    for name, rows in (("trainset.json", chosen), ("testset.json", [])):
        (folder / "in" / name).write_text(json.dumps(rows))
    prepare("vqa_rad", str(folder / "in"), folder / "made")
    return folder, len(chosen)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def real(request, vqa_rad):
    """A run's words for VQA-RAD's images, how many questions there are, and what each is alone."""
    folder, questions = vqa_rad
    words = assistant_words(folder, request.param)
    objective = build_objective(compose("train", [*words, "objective.packing=none"]))
    model, encoder = objective.module.model.eval(), objective.pipeline.encoder
    dataset = ShardDataset(folder / "made/train")
    losses, counts = [], []
    for sample in (dataset.read(i) for i in range(len(dataset))):
        conversations = [encoder.encode(conversation.turns, 1) for conversation in sample.conversations]
        (name,) = sample.images
        picture = Image.open(io.BytesIO(sample.images[name])).convert("RGB")
        pixels = objective.pipeline.images.processor(picture, return_tensors="pt")["pixel_values"]
        losses += stock_losses(model, conversations, pixels)
        counts += [int(conversation.supervised.sum()) for conversation in conversations]
    assert len(losses) == questions
    each, counts = torch.stack(losses), torch.tensor(counts)
    steps = {"token": each.sum() / counts.sum(), "sample": (each / counts).mean()}
    alone = {name: (loss.item(), gradients(model, loss, keep=True)) for name, loss in steps.items()}
    return words, model.state_dict(), questions, alone


@pytest.mark.parametrize(
    ("packing", "weighting"), [("none", "token"), ("sequence", "token"), ("tree", "token"), ("tree", "sample")]
)
def test_real_questions_packed_are_what_they_are_alone(real, packing, weighting):
    words, weights, questions, alone = real
    chosen = [f"objective.packing={packing}", f"objective.weighting={weighting}"]
    config = compose("train", [*words, *chosen, "data.global_batch_size=1", "objective.max_length=512"])
    objective = build_objective(config)
    data = build_data(config, objective.pipeline)
    data.setup()
    whole = RankSchedule(data.plan, len(data.plan))
    (requests,) = whole.requests(0, 1)
    batch = objective.pipeline.collate([data.samples[request] for request in requests])
    objective.module.model.load_state_dict(weights)
    module = instruction(SimpleNamespace(model=objective.module.model, parts=objective.module.parts))
    ours, _ = module.loss(batch)
    loss, expected = alone[weighting]
    assert ours.item() == pytest.approx(loss, rel=1e-6)
    assert furthest(gradients(module.model, ours), expected) < 1e-5
    assert batch.conversations == questions
    documents = sum(len(set(row.tolist()) - {-1}) for row in batch.documents_RL)
    assert documents == (IMAGES if packing == "tree" else questions)
    assert (len(batch.ids_RL) == documents) == (packing == "none")
