"""Training in which a sample spoils the loss of its batch. Nothing of ours is imported before a rank knows its number."""


def train_spoiled(words, key):
    """`medvlp train` with a loss that is no number wherever a sample is in the batch."""
    import medvlp.training.fit
    from medvlp.train import main
    from medvlp.training.objectives.contrastive import Contrastive

    loss_of = Contrastive.loss_of

    def spoiled(self, features, batch):
        loss, values = loss_of(self, features, batch)
        return loss * (float("nan") if key in batch.keys else 1.0), values

    Contrastive.loss_of = spoiled
    medvlp.training.fit.try_longest = lambda *args: None
    return main(words)
