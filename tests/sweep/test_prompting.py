"""Prompting protocols in sweeps: examples, votes and the choice of a prompt set are the same bytes on two ranks."""

import pytest

from medvlp.evaluate import main as evaluate
from tests.assistants import vqa_samples
from tests.datasets import write_split
from tests.runs import rows
from tests.sweep.processes import finish_eval, start_eval
from tests.sweep.test_ranks import contents
from tests.sweep.world import ASSISTANT, words

TASK = """name: prompted
kind: vqa
data: {folder}/prompted
max_new_tokens: 4
controls: [blank_image]
prompting: {{example_images: false}}
prompt_sets:
  random: {{prompting: {{shots: 1, selection: random, seed: 3}}}}
  nearest: {{prompting: {{shots: 1, selection: nearest, embedding: text, embedder: a.ckpt}}}}
  votes: {{prompting: {{samples: 3, temperature: 0.9}}}}
"""


@pytest.mark.slow
def test_two_ranks_prompt_as_one(sweep_folder):
    for split, start in (("test", 0), ("valid", 10), ("train", 20)):
        write_split(sweep_folder / "prompted" / split, vqa_samples(start + 5)[start:])
    (sweep_folder / "configs/task/prompted.yaml").write_text(TASK.format(folder=sweep_folder))
    options = [f"cache.dir={sweep_folder}/prompted_cache_of_"]
    args = words("prompted_two", [ASSISTANT], ["prompted"], f"{options[0]}two")
    code, said = finish_eval(start_eval(args, sweep_folder, ranks=2))
    assert code == 0, said
    assert evaluate(words("prompted_one", [ASSISTANT], ["prompted"], f"{options[0]}one")) == 0
    assert contents(sweep_folder / "prompted_two") == contents(sweep_folder / "prompted_one")
    protocol = next(iter(rows(sweep_folder / "prompted_one/results.jsonl")))["protocol"]
    assert protocol["prompt_set_chosen"].startswith("best mean score on the validation split: random ")
    records = list(rows(sweep_folder / "prompted_one" / protocol["records"]))
    assert all(set(record["scores_by_prompts"]) == {"random", "nearest", "votes"} for record in records)
