import pytest

from medvlp.builders.data import as_conversations, build_data, open_shards
from medvlp.config import SourceConfig, compose
from medvlp.data.pipeline import BatchPipeline, OpenedSources
from medvlp.errors import UserError
from medvlp.shards import ShardError


class Recording(BatchPipeline):
    """Says in which order it is called."""

    prepare = collate = None

    def __init__(self):
        self.calls = []

    def write_caches(self, sources):
        self.calls.append("write_caches")

    def open(self, sources):
        self.calls.append("open")
        return OpenedSources(sources, [{"source": "made"}])

    def plan(self, order, datasets):
        self.calls.append("plan")
        return super().plan(order, datasets)


def test_data_are_opened_by_setup_once_and_in_order(clip_words):
    pipeline = Recording()
    data = build_data(
        compose("train", [*clip_words, "data.global_batch_size=3", "data.sources.made.weight=2"]), pipeline
    )
    assert pipeline.calls == []
    for _ in range(2):  # Lightning calls them again
        data.prepare_data()
        data.setup("fit")
    assert pipeline.calls == ["write_caches", "open", "plan"]
    assert (len(data.plan), data.steps_per_epoch, data.unfilled) == (16, 5, 1)
    assert data.skipped == [{"source": "made"}]


@pytest.mark.parametrize(
    ("limits", "steps"), [(["trainer.max_steps=5"], 5), (["trainer.max_epochs=3"], 12), (["trainer.max_epochs=1"], 4)]
)
def test_the_run_ends_at_its_first_limit(clip_words, limits, steps):
    data = build_data(compose("train", [*clip_words, "data.global_batch_size=2", *limits]), Recording())
    data.setup()
    assert data.total_steps == steps


def test_a_batch_larger_than_the_data_is_refused(clip_words):
    data = build_data(compose("train", [*clip_words, "data.global_batch_size=100"]), Recording())
    with pytest.raises(UserError, match=r"an epoch has 8 samples, fewer than data.global_batch_size=100"):
        data.setup()


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(ShardError, match=str(tmp_path)):
        open_shards(str(tmp_path))


def test_conversations_are_made_and_reworded_as_the_source_says(clip_words):
    path = next(word.split("=")[1] for word in clip_words if word.startswith("data.sources.made.path"))
    shards = open_shards(path)
    assert as_conversations(shards, SourceConfig(path=path)) is shards
    source = SourceConfig(path=path, caption_prompts=["What is this?"], answer_template="It is: {answer}")
    (conversation,) = as_conversations(shards, source).read(0).conversations
    question, answer = conversation.turns
    assert question.text == "<image>\nWhat is this?"
    assert answer.text == f"It is: {shards.read(0).texts['caption']}"


def test_conditions_of_a_source_are_counted_and_part_of_the_order(clip_words):
    condition = "caption_length > 0 and key not in (made__a0001__f1__0)"
    overrides = [*clip_words, "data.global_batch_size=2", f"data.sources.made.where=['{condition}']"]
    data = build_data(compose("train", overrides), Recording())
    data.setup()
    (selected,) = data.selected.values()
    assert (len(data.plan), selected.samples, selected.drops) == (7, 8, {condition: 1})
    assert "made__a0001__f1__0" not in data.sources["made"].keys


def test_a_condition_that_is_none_is_refused_before_any_data_are_read(clip_words):
    with pytest.raises(UserError, match=r"data\.sources\.made\.where\[1\]: width >⟨here⟩ — expected a value"):
        compose("train", [*clip_words, "data.sources.made.where=['width > 3', 'width >']"])


def test_shares_are_of_an_epoch_as_long_as_the_sources_together(clip_words):
    path = next(word for word in clip_words if word.startswith("data.sources.made.path")).partition("=")[2]
    other = [f"data.sources.other.path={path}", "data.sources.other.where=['key in (made__a0001__f1__0)']"]
    shares = ["data.shares.made=1", "data.shares.other=2", "data.global_batch_size=3"]
    data = build_data(compose("train", [*clip_words, *other, *shares]), Recording())
    data.setup()
    assert data.counts == {"made": 3, "other": 6}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (["data.shares.mde=1"], r"data\.shares names mde, which is no source; did you mean made\?"),
        (["data.shares.made=0"], r"data\.shares\.made=0\.0 must be above 0"),
        (["data.shares.made=1", "data.sources.more.path=x"], "data.shares has no share of more"),
        (["data.shares.made=1", "data.sources.made.weight=2"], "both say how often made is shown"),
        (["data.sources.made.weight=inf"], r"data\.sources\.made\.weight=inf must be above 0"),
        (["data.sources.made.weight=nan"], r"data\.sources\.made\.weight=nan must be above 0"),
    ],
)
def test_a_wrong_or_missing_share_is_named(clip_words, shares, message):
    with pytest.raises(UserError, match=message):
        compose("train", [*clip_words, *shares])
