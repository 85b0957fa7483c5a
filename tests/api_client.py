"""Asks a server all questions of some shards; also as a process: `python -m tests.api_client <url> <shards> <store> <n>`."""

import sys
from pathlib import Path

from medvlp.config import ApiConfig
from medvlp.eval.models.answering import Prompt
from medvlp.eval.models.api import ApiModel, answer_parts
from medvlp.eval.store.responses import ResponseLog
from medvlp.models.api.client import ApiClient
from medvlp.models.api.retrying import Backoff
from medvlp.shards import ShardDataset
from tests.api_server import MODEL

PIXELS = 10**6


def api_model(
    url: str, store: Path, concurrency: int = 4, retries: int = 8, timeout_s: float = 5.0, **config
) -> ApiModel:
    """A model behind a test's server, which waits next to nothing."""
    client = ApiClient(url, MODEL, timeout_s, Backoff(retries, 0.01, 5.0))
    settings = ApiConfig(concurrency=concurrency, **config)
    return ApiModel(client, settings, ResponseLog(store, answer_parts(client, settings, PIXELS)), PIXELS)


def answers(model: ApiModel, shards: ShardDataset, batch_size: int = 6) -> list[str]:
    """To all questions of some shards."""
    prompts = []
    for row in range(len(shards)):
        sample = shards.read(row)
        pictures = model.pictures(sample)
        prompts += [Prompt(talk.turns[:-1], len(pictures), pictures) for talk in sample.conversations]
    batches = [prompts[start : start + batch_size] for start in range(0, len(prompts), batch_size)]
    return [answer for batch in batches for answer in model.generate(batch, 8)]


if __name__ == "__main__":
    url, folder, store, concurrency = sys.argv[1:]
    answers(api_model(url, Path(store), int(concurrency)), ShardDataset(folder))
    print("done", flush=True)
