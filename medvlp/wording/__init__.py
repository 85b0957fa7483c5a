"""Words in which models are asked, for tasks and training alike."""
