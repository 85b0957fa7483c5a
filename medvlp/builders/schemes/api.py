"""Models of `api:` names: behind a server that speaks OpenAI's chat completions."""

from typing import Any

from medvlp.builders.models import ModelKind
from medvlp.config import EvalConfig
from medvlp.config.model_names import ModelName
from medvlp.eval.models.api import ApiModel, answer_parts
from medvlp.eval.store.responses import ResponseLog
from medvlp.models.api.client import ApiClient
from medvlp.models.api.retrying import Backoff
from medvlp.models.digests import FileFacts, content_identity


class ServedModel:
    """A `NamedModel` behind a server."""

    def __init__(self, name: ModelName) -> None:
        self.base_url, _, self.model = name.target.partition("#")

    def kind(self) -> ModelKind:
        """What any of them can do; nobody is asked."""
        return ModelKind("a model behind a server", ApiModel.offers)

    def identity(self, facts: FileFacts) -> str:
        """Hash of server and model: which weights answer there, only the server knows."""
        return content_identity({"server": self.base_url, "model": self.model, "weights": "unknown"})

    def origin(self) -> dict[str, Any]:
        """Nothing that the rest of the protocol does not say."""
        return {}

    def open(self, device: str, config: EvalConfig) -> ApiModel:
        """The model, without a word to its server; its answers are kept in memory, until `kept_in`.

        Raises:
            ApiError: the package for it is missing, or the key cannot stand in a request.
        """
        settings = config.api
        backoff = Backoff(settings.retries, settings.first_wait_s, settings.longest_wait_s)
        client = ApiClient(self.base_url, self.model, settings.timeout_s, backoff)
        log = ResponseLog(None, answer_parts(client, settings, config.max_pixels))
        return ApiModel(client, settings, log, config.max_pixels)
