from medvlp.config import TrainConfig, describe


def test_every_key_has_a_default_and_a_sentence():
    rows = list(describe(TrainConfig))
    keys = [key for key, _, _ in rows]
    assert len(keys) == len(set(keys))
    assert {"optim.lr", "data.global_batch_size", "model.vision.timm", "objective.same_text", "resume"} <= set(keys)
    assert [key for key, _, sentence in rows if not sentence] == []
    assert {key: default for key, default, _ in rows}["trainer.checkpoint_every"] == "500"
