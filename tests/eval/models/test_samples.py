"""Sampled answers of models: near temperature 0 the greedy ones, and the same in any batch."""

from medvlp.builders.models import named_model
from medvlp.config import EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.models.answering import Prompt, Sampling
from medvlp.shards import Sample, Turn
from tests.api_client import api_model
from tests.api_server import serving
from tests.assistants import tiny_language

WORDS = ("Is the heart enlarged?", "Where is the lesion?")


def test_samples_of_a_language_model(tmp_path):
    folder = tiny_language(tmp_path / "model", "llama")
    config = EvalConfig(checkpoints=["x"], tasks=["y"], cache=CacheConfig(max_gb=0))
    model = named_model(parse_model_name(f"hf:{folder}")).open("cpu", config)
    prompts = [Prompt([Turn("user", words)], 0, model.pictures(Sample("s", {}))) for words in WORDS]
    assert model.sample(prompts, [0, 0], Sampling(1e-6), 6) == model.generate(prompts, 6)
    jobs = [(prompt, number) for prompt in prompts for number in range(3)]
    together = model.sample([p for p, _ in jobs], [n for _, n in jobs], Sampling(1.0), 6)
    assert [model.sample([p], [n], Sampling(1.0), 6)[0] for p, n in jobs] == together
    assert len(set(together)) > 3
    assert model.sample(prompts, [0, 0], Sampling(1.0, seed=1), 6) != [together[0], together[3]]


def test_samples_of_a_server_have_a_temperature_and_seeds_and_are_kept(tmp_path):
    bodies = []

    def says(request):
        bodies.append(request.body)
        return f"answer {len(bodies)}"

    with serving(says) as server:
        model = api_model(server.url, tmp_path)
        prompts = [Prompt([Turn("user", WORDS[0])], 0, ())] * 3
        answers = model.sample(prompts, [0, 1, 2], Sampling(0.7, 0.9), 16)
        assert model.sample(prompts, [0, 1, 2], Sampling(0.7, 0.9), 16) == answers
    assert len(set(answers)) == len(bodies) == 3
    assert {(body["temperature"], body["top_p"]) for body in bodies} == {(0.7, 0.9)}
    assert len({body["seed"] for body in bodies}) == 3
