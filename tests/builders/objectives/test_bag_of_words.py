from medvlp.builders import build_objective
from medvlp.config import compose
from medvlp.data.bag_of_words import BagOfWordsPipeline
from medvlp.training.objectives.bag_of_words import BagOfWords


def test_building_counts_no_words(llava_words, tmp_path):
    words = [word for word in llava_words if not word.startswith("objective")]
    options = ["objective=bag_of_words", "objective.min_samples=3", "optim.parts.language.freeze=true"]
    absent = f"data.sources.made.path={tmp_path}/absent"
    objective = build_objective(compose("train", [*words, *options, absent]))
    assert isinstance(objective.module, BagOfWords)
    assert isinstance(objective.pipeline, BagOfWordsPipeline)
    assert objective.pipeline.min_samples == 3
    assert objective.pipeline.token_sets.fields == [["caption*"]]
    assert objective.evaluated is None
