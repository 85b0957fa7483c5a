"""Where units of work run. An engine is `run(function, jobs, workers) → outcomes`, in any order."""

from __future__ import annotations

from data_prep.engines.local import Outcome, run

ENGINES = {"local": run}

__all__ = ["ENGINES", "Outcome"]
