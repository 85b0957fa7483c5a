"""The training service: one LightningModule base, and callbacks that every objective shares."""
