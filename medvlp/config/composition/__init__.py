"""Composition with Hydra: from arguments, recipes and options to typed, checked objects. Hydra and OmegaConf stay in here."""
