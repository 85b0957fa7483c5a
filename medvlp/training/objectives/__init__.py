"""LightningModules of the objectives: a model with its loss."""
