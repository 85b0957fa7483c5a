"""Options of models behind a server."""

from dataclasses import dataclass, field
from typing import Any

from medvlp.config.rules import ConfigError, at_least, not_negative

RESERVED = ("model", "messages", "stream", "n")
"""Parameters of a request that are not the user's."""


@dataclass(kw_only=True)
class ApiConfig:
    """How the server of an `api:` model is asked."""

    concurrency: int = 8
    """Requests at a time."""
    retries: int = 6
    """Times that a request is sent again that failed in a way that passes: busy, no answer in time, a cut connection."""
    first_wait_s: float = 1.0
    """Seconds before the first of them, doubled for each that follows; a server's Retry-After comes on top."""
    longest_wait_s: float = 600.0
    """A server that asks to wait longer ends the evaluation."""
    timeout_s: float = 300.0
    """Seconds without a sign of life after which a request has failed."""
    seed: int = 0
    """Sent with every request, next to temperature 0."""
    images: bool = True
    """false for a language model: it is asked without them."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """More of a request, e.g. api.parameters.chat_template_kwargs.enable_thinking=false; null leaves a parameter out:
    api.parameters.seed=null."""

    def check(self) -> None:
        """Ranges, and parameters that can be chosen. Raises ConfigError."""
        at_least("api.concurrency", self.concurrency, 1)
        at_least("api.retries", self.retries, 0)
        for name in ("first_wait_s", "longest_wait_s", "timeout_s"):
            not_negative(f"api.{name}", getattr(self, name))
        if self.timeout_s == 0:
            raise ConfigError("api.timeout_s=0 gives no server time to answer")
        if names := [name for name in RESERVED if name in self.parameters]:
            raise ConfigError(f"api.parameters: {names[0]} is set by medvlp; leave it out")
