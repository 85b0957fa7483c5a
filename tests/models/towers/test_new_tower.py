"""A tower of another kind of input needs no change outside its own file and the tables of medvlp/models/towers."""

import json

import numpy as np
import pytest
import torch

from medvlp.data.chat.packing import CollateConversations
from medvlp.export.transformers import NotExportable, check_exportable
from medvlp.models import towers
from medvlp.models.llava.generate import BatchedGenerator
from medvlp.models.llava.language import load_language
from medvlp.models.llava.metadata import from_metadata, metadata_of
from medvlp.models.llava.model import assemble, projected_features
from medvlp.models.llava.packed import last_hidden
from tests.assistants import tiny_language
from tests.data.chat.packed import encoded

MODULE = "tests.models.towers.volume_tower"


@pytest.fixture
def assistant(tmp_path, monkeypatch):
    monkeypatch.setitem(towers.TOWERS, "toy", f"{MODULE}:load_volume")
    monkeypatch.setitem(towers.MODEL_TYPES, "toy_volume", MODULE)
    language, tokenizer, name = load_language(str(tiny_language(tmp_path / "language")))
    return assemble(towers.load_tower("toy:volumes"), language, tokenizer, name, None)


def conversation(assistant, *answer):
    return encoded(([assistant.image_id] * assistant.image_tokens, False), ([5, 6], False), (list(answer), True))


def test_a_tower_of_volumes_trains_answers_and_comes_back(assistant):
    model = assistant.model.eval()
    volumes = torch.randn(1, 1, 8, 8, 8)
    assert assistant.image_tokens == 8
    features = projected_features(model, volumes)
    assert features.shape == (1, 8, 32)

    talks = [conversation(assistant, 7, 8), conversation(assistant, 9)]
    item = {"key": "k", "position": 0, "conversations": talks, "images": volumes}
    collate = CollateConversations(0, assistant.image_id, assistant.image_tokens, tree=True, weighting="token")
    batch = collate([{"items": [item], "bad": [], "total": 3.0}])
    hidden = last_hidden(model, batch, projected_features(model, batch.images_N))
    learning = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(hidden.square().sum(), learning, allow_unused=True)
    assert all(gradient is not None for gradient in gradients)

    prompt = np.array([assistant.image_id] * 8 + [5, 6])
    (text,) = BatchedGenerator(assistant).generate([(prompt, volumes)], 4)
    again = from_metadata(json.loads(json.dumps(metadata_of(assistant))))
    assert again.processor([np.zeros((8, 8, 8))])["pixel_values"].shape == (1, 1, 8, 8, 8)
    again.model.load_state_dict(model.state_dict())
    assert BatchedGenerator(again).generate([(prompt, volumes)], 4) == [text]
    with pytest.raises(NotExportable, match="a toy_volume, which stock transformers does not know"):
        check_exportable(assistant)
