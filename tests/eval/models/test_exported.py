"""An assistant that `medvlp export format=hf` wrote scores as `hf:<folder>` exactly what its weights score here."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from medvlp.builders.llava import assistant_model, chat_encoder
from medvlp.builders.models import named_model
from medvlp.config import EvalConfig, LanguageConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.vqa.task import Vqa
from medvlp.export.transformers import write_assistant
from medvlp.shards import Conversation, Turn
from tests.assistants import tiny_assistant, vqa_samples
from tests.eval.vqa.test_task import dataset

ORGANS = {"options": {"A": "heart", "B": "left lung", "C": "left kidney"}, "answer_letter": "B"}


@pytest.mark.parametrize("family", ["llama", pytest.param("qwen2", marks=pytest.mark.slow)])
def test_every_record_and_score_is_the_same(family, tmp_path):
    choice = Conversation(
        [Turn("user", "<image>\nWhich organ?"), Turn("assistant", "left lung")],
        "choice",
        {"answer_type": "multiple_choice", **ORGANS},
    )
    samples = [replace(sample, conversations=[*sample.conversations, choice]) for sample in vqa_samples(4)]
    samples += vqa_samples(2, images=2, source="two") + vqa_samples(2, images=0, source="none")
    task = Vqa("made", dataset(tmp_path, samples), bootstrap=Bootstrap(resamples=0))
    assistant = tiny_assistant(tmp_path, family)
    encoder = chat_encoder(assistant, LanguageConfig())
    expected = task.run(assistant_model(assistant, encoder, 10**6, 8, "weights"))
    (tmp_path / "exported").mkdir()
    write_assistant(assistant, encoder, tmp_path / "exported")
    name = parse_model_name(f"hf:{tmp_path}/exported")
    result = task.run(named_model(name).open("cpu", EvalConfig(checkpoints=["x"], tasks=["y"], batch_size=5)))
    assert [metric.name for metric in result.metrics] == [metric.name for metric in expected.metrics]
    for metric, same in zip(result.metrics, expected.metrics, strict=True):
        np.testing.assert_array_equal(astuple(metric)[1:], astuple(same)[1:], err_msg=metric.name)
    for record, same in zip(result.records, expected.records, strict=True):
        for key in ("letter_logprob", "option_logprob"):
            if key in same:
                assert _flat(record.pop(key)) == pytest.approx(_flat(same.pop(key)), abs=1e-4)
        assert record == same
    assert result.protocol["first_prompt"] == expected.protocol["first_prompt"]
    assert result.protocol["n"] == expected.protocol["n"] == len(expected.records)
    assert len({record["prediction"] for record in result.records}) > 5


def _flat(likelihoods):
    return [number for value in likelihoods.values() for number in (value if isinstance(value, tuple) else (value,))]
