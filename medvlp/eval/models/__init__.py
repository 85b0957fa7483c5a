"""Models as tasks ask them: one protocol for assistants, transformers' own models and services."""
