"""A model whose responses are kept is asked only what is missing, and gives the results that it gives without."""

import contextlib
from dataclasses import replace

import pytest
from transformers import AutoModelForCausalLM

from medvlp.builders import models
from medvlp.builders.models import named_model, open_model
from medvlp.config import CacheConfig, EvalConfig
from medvlp.config.evaluation.load import LoadConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.models.answering import Prompt
from medvlp.eval.models.kept import KeptModel
from medvlp.eval.store import embeddings
from medvlp.eval.store.responses import ResponseLog
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import BadSample
from tests.assistants import tiny_language
from tests.datasets import jpeg
from tests.eval.models.test_answering import Reader
from tests.eval.vqa.test_task import CHOICE, FOUR, NO_INTERVALS, dataset, sample


class Seeing(Reader):
    """A Reader whose answers and likelihoods depend on its images; counts the samples that it decodes."""

    def __init__(self, unreadable=()):
        super().__init__(None, ("generate", "loglikelihood"), takes_images=True)
        self.decoded, self.unreadable = [], unreadable

    def pictures(self, sample):
        if sample.key in self.unreadable:
            raise BadSample("undecodable_image")
        self.decoded.append(sample.key)
        return super().pictures(sample)

    def generate(self, prompts, max_new_tokens):
        self.prompts += prompts
        return [f"<think>{prompt.pixels}</think> {prompt.turns[-1].text[-9:]} {prompt.pixels}" for prompt in prompts]

    def loglikelihood(self, prompts, answers):
        self.prompts += prompts
        return [
            [(-1.0 / 3 * len(answer) - len(str(prompt.pixels)), len(answer)) for answer in of_prompt]
            for prompt, of_prompt in zip(prompts, answers, strict=True)
        ]


SAMPLES = [*FOUR, sample(4, CHOICE), sample(5, [("Is it large?", "no", "closed", {})], images=2)]
SAMPLES[5] = replace(SAMPLES[5], images={"0.jpg": jpeg(50), "1.jpg": jpeg(51)})


def run(folder, model, **options):
    """A task's result as text, in which NaN equals NaN."""
    return repr(Vqa("made", folder, bootstrap=NO_INTERVALS, batch_size=3, **options).run(model))


def test_what_decides_an_answer_decides_its_log(tmp_path, monkeypatch):
    """Of a model of transformers: each change makes another log, and the same again the same one."""
    folder = tiny_language(tmp_path / "model", "llama")

    def log_of(**changes):
        cache = CacheConfig(dir=str(tmp_path / "cache"))
        config = EvalConfig(checkpoints=["x"], tasks=["y"], **({"cache": cache} | changes))
        return open_model(parse_model_name(f"hf:{folder}"), "cpu", config).log.path

    paths = [log_of()]
    assert log_of(batch_size=1, workers=0) == paths[0]
    paths += [
        log_of(max_pixels=1000),
        log_of(load=LoadConfig(dtype="bfloat16")),
        log_of(load=LoadConfig(attention="eager")),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "versions", lambda libraries=(): {"torch": "another"})
        paths.append(log_of())
    with monkeypatch.context() as patch:
        patch.setattr(models, "RESPONSES_FORMAT", 0)
        paths.append(log_of())
    template = folder / "chat_template.jinja"
    (folder / "generation_config.json").write_text('{"eos_token_id": 5}')
    paths.append(log_of())
    template.write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    paths.append(log_of())
    network = AutoModelForCausalLM.from_pretrained(folder)
    network.lm_head.weight.data += 0.01
    network.save_pretrained(folder)
    paths.append(log_of())
    assert len(set(paths)) == len(paths) == 9


def test_a_second_evaluation_asks_and_decodes_nothing(tmp_path):
    shards = dataset(tmp_path / "data", SAMPLES)
    expected = run(shards, direct := Seeing())
    assert run(shards, KeptModel(first := Seeing(), ResponseLog(tmp_path, {}))) == expected
    # "Is it large?" about as many blank images is one question, whatever the sample.
    assert len(first.prompts) < len(direct.prompts)
    assert run(shards, KeptModel(second := Seeing(), ResponseLog(tmp_path, {}))) == expected
    assert (second.prompts, second.decoded) == ([], [])


def test_another_task_asks_only_what_is_new(tmp_path):
    shards = dataset(tmp_path / "data", SAMPLES)
    run(shards, KeptModel(Seeing(), ResponseLog(tmp_path, {})), controls=())
    again = run(shards, KeptModel(model := Seeing(), ResponseLog(tmp_path, {})), controls=("blank_image",))
    assert again == run(shards, Seeing(), controls=("blank_image",))
    assert model.decoded == []
    assert {str(prompt.pixels) for prompt in model.prompts} == {"['blank']", "['blank', 'blank']"}
    longer = KeptModel(other := Seeing(), ResponseLog(tmp_path, {"weights": "others"}))
    run(shards, longer, controls=())
    assert len(other.prompts) >= 9


def test_a_killed_evaluation_goes_on_where_it_was(tmp_path):
    """Each time the model dies in its next batch; together they ask every question once."""
    shards = dataset(tmp_path / "data", SAMPLES)
    expected = run(shards, direct := Seeing())

    class Dying(Seeing):
        def generate(self, prompts, max_new_tokens):
            if self.prompts:
                raise KeyboardInterrupt
            return super().generate(prompts, max_new_tokens)

    prompts: list = []
    result = None
    for _ in range(30):
        model = Dying()
        with contextlib.suppress(KeyboardInterrupt):
            result = run(shards, KeptModel(model, ResponseLog(tmp_path, {})))
        prompts += model.prompts
        if result:
            break
    assert result == expected
    asked = [(str(prompt.turns), str(prompt.pixels)) for prompt in prompts]
    assert len(asked) <= len(direct.prompts)
    assert set(asked) == {(str(prompt.turns), str(prompt.pixels)) for prompt in direct.prompts}


def test_a_bad_image_is_bad_each_time(tmp_path):
    shards = dataset(tmp_path / "data", SAMPLES)
    for _ in range(2):
        result = run(shards, KeptModel(Seeing({"made__1__0__0"}), ResponseLog(tmp_path, {})))
        assert "'bad': {'undecodable_image': 1}" in result


@pytest.mark.parametrize("broken", [float("nan"), float("-inf")])
def test_what_json_cannot_hold_is_not_kept(tmp_path, broken):
    class Broken(Seeing):
        def loglikelihood(self, prompts, answers):
            return [[(broken, 1) for _ in of_prompt] for of_prompt in answers]

    model, question = KeptModel(Broken(), ResponseLog(tmp_path, {})), SAMPLES[4]
    prompts = [Prompt(question.conversations[0].turns[:1], 1, model.pictures(question))]
    assert str(model.loglikelihood(prompts, [["A"]])) == str([[(broken, 1)]])
    assert len(ResponseLog(tmp_path, {})) == 0


def test_a_servers_answers_are_kept_whatever_the_size_of_the_cache(tmp_path):
    config = EvalConfig(checkpoints=["x"], tasks=["y"], cache=CacheConfig(dir=str(tmp_path / "cache"), max_gb=0))
    name = parse_model_name("api:http://127.0.0.1:9/v1#m")
    open_model(name, "cpu", config).log.add({"k": {"text": "paid"}})
    assert open_model(name, "cpu", config).log.get("k") == {"text": "paid"}
    assert named_model(name).open("cpu", config).log.get("k") is None
