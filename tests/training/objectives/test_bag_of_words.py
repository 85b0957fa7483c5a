import math
from dataclasses import replace

import pytest
import torch

from medvlp.data.bag_of_words import BagOfWordsBatch
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.bag_of_words import SCALE, SIZE_WEIGHT, BagOfWords
from tests.assistants import tiny_assistant

SETTINGS = OptimizerSettings(1e-2, 0.0, (0.9, 0.98), 1e-6, "constant", 0, 0.0, frozen=("vision", "language"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    assistant = tiny_assistant(tmp_path_factory.mktemp("words"))
    return BagOfWords(assistant.model, assistant.parts, SETTINGS, 0)


def batch():
    generator = torch.Generator().manual_seed(0)
    return BagOfWordsBatch(
        keys=["a", "b", "c"],
        positions=[0, 1, 2],
        bad=[],
        images_N=torch.randn(5, 4, 32, generator=generator),  # features of 4 tokens, width 32
        sample_index_N=torch.tensor([0, 0, 1, 2, 2]),
        words_BW=torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]]),
        vocabulary_W=torch.tensor([5, 9, 40, 77]),
        prior_W=torch.logit(torch.tensor([0.5, 0.25, 0.1, 0.4])),
    )


def slow_loss(module, batch):
    """The loss word by word, in float64."""
    projector, table = module.model.model.multi_modal_projector, module.model.get_input_embeddings().weight.double()
    tokens = projector(batch.images_N).double()
    usual = math.sqrt(float(table.square().mean()))
    terms = []
    for row in range(3):
        image = tokens[batch.sample_index_N == row].mean(dim=(0, 1))
        for column, (word, share) in enumerate(zip([5, 9, 40, 77], [0.5, 0.25, 0.1, 0.4], strict=True)):
            cosine = float(image @ table[word]) / float(image.norm() * table[word].norm())
            logit = SCALE * cosine + math.log(share / (1 - share))
            chance = 1 / (1 + math.exp(-logit))
            terms.append(-math.log(chance if batch.words_BW[row, column] else 1 - chance))
    sizes = [math.sqrt(float(token.square().mean())) / usual for token in tokens.flatten(0, 1)]
    return sum(terms) / 12 + SIZE_WEIGHT * sum((size - 1) ** 2 for size in sizes) / 20


def test_the_loss_is_that_of_every_word_by_itself(made):
    assert float(made.loss(batch())[0].detach()) == pytest.approx(slow_loss(made, batch()), rel=1e-5)


def test_pixels_go_through_the_tower(made):
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    from medvlp.models.llava.model import tower_features

    from_pixels = replace(batch(), images_N=pixels)
    from_features = replace(batch(), images_N=tower_features(made.model, pixels))
    assert torch.equal(made.loss(from_pixels)[0], made.loss(from_features)[0])


def test_only_the_projector_learns_and_it_learns_the_words(made):
    trained = {name for name, parameter in made.model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(name.startswith("model.multi_modal_projector") for name in trained)
    optimizer = torch.optim.Adam([p for p in made.model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(80):
        loss, _ = made.loss(batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05
