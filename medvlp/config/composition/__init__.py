"""Composition with Hydra: from arguments, recipes and options to typed, checked objects. Nothing else imports Hydra or OmegaConf."""
