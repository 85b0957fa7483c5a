"""Text retrieval and composed retrieval on colours, where every similarity is known."""

import math

import pytest

from medvlp.config import ComposedRetrievalConfig, ConfigError, TextRetrievalConfig
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.retrieval.composed import ComposedRetrieval
from medvlp.eval.retrieval.texts import TextRetrieval
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskSettings
from medvlp.shards import BadSample
from tests.eval.colour_world import ColourEncoder, FakeDataset, FakeSample, png, sample


def run(kind, config, rows):
    task = kind.from_config(config, FakeDataset(rows), TaskSettings(Bootstrap(resamples=50)))
    return task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000))


def texts_of(rows, **changes):
    return run(TextRetrieval, TextRetrievalConfig(name="t", data="d", **changes), rows)


def composed(rows, **changes):
    return run(ComposedRetrieval, ComposedRetrievalConfig(name="c", data="d", **changes), rows)


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def document(id, text="", colour=""):
    metadata = {"role": "document", "document_id": id, "group": id}
    return FakeSample(
        f"doc-{id}", {"png": png(colour)} if colour else {}, {"document": text} if text else {}, {}, metadata
    )


def query(id, text, relevance, colour="", **metadata):
    metadata = {"role": "query", "relevance": relevance, "group": id, **metadata}
    return FakeSample(id, {"png": png(colour)} if colour else {}, {"query": text} if text else {}, {}, metadata)


DOCUMENTS = [document("1", "red"), document("2", "red"), document("3", "red blue"), document("4", "green")]


def test_texts_by_texts_as_the_data_state_it():
    rows = [
        *DOCUMENTS,
        query("a", "red", {"1": 2, "3": 1}),  # 1 ties with 2, which is not relevant
        query("b", "green", {"4": 1, "9": 1}),  # 9 is not there
        query("c", "blue", {"9": 1}),
        query("d", "", {"1": 1}),
        query("e", "red", ["1"]),
        query("f", "red", {"1": -1}),
        BadSample("checksum_mismatch"),
    ]
    result = texts_of(rows)
    a, b = result.records
    assert (a["rank"], a["prediction"], a["target"], a["relevant_n"]) == (2, "doc-2", ["doc-1", "doc-3"], 2)
    assert [row["id"] for row in a["top"]] == ["doc-2", "doc-1", "doc-3", "doc-4"]
    assert (a["scores"]["recall@1"], a["scores"]["recall@5"], a["scores"]["hit@1"]) == (0, 1, 0)
    dcg, ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4), 2 + 1 / math.log2(3)  # what ties shares grade 2
    assert a["scores"]["ndcg@10"] == pytest.approx(dcg / ideal, abs=1e-12)
    assert b["scores"]["ndcg@10"] == b["scores"]["recall@1"] == 1
    assert values(result)["recall@1"] == 0.5
    assert result.protocol["exclusions"] == [
        "2 of 6 queries: relevance is no mapping of ids to grades of 0 and more",
        "1 of 6 queries: no candidate is relevant",
        "1 of 6 queries: no text query",
        "1 of 7 samples: cannot be read (checksum mismatch)",
        "2 grades: of documents that are not among the candidates",
    ]
    assert (result.protocol["n"], result.protocol["candidates"]) == (2, 4)
    assert "ties" in result.protocol["tie_rule"]
    again = measures(result.records, result.protocol)[0].metrics
    assert {name: metric(None) for name, metric in again.items()} == values(result)


def test_texts_by_texts_that_share_labels():
    rows = [
        sample("a", "red", "p1", "red", concepts=["X", "Y"]),
        sample("b", "red", "p1", "red", concepts=["X", "Y"]),  # of a's group: no candidate for it
        sample("c", "red", "p2", "red blue", concepts=["X"]),  # half of what either has
        sample("d", "red", "p3", "green", concepts=["X", "Y", "Z"]),  # two of three
        sample("e", "red", "p4", "grey", concepts=["W"]),
        sample("f", "red", "p5", "grey"),
        sample("g", "red", "p6", concepts=["X"]),
    ]
    result = texts_of(rows, query="caption", label="concepts", relevant_from=0.5)
    assert [record["id"] for record in result.records] == ["a", "b", "c", "d"]
    grades = {row["id"]: row["grade"] for row in result.records[0]["top"]}
    assert grades == {"c": 1 / 2, "d": 2 / 3, "e": 0, "f": 0}
    assert result.protocol["relevance"] == "Jaccard index of the names in concepts"
    assert result.protocol["exclusions"] == [
        "1 of 6 queries: no candidate is relevant",
        "1 of 6 queries: no label concepts",
        "1 samples: no text caption",
    ]


def test_images_by_an_image_and_a_text():
    rows = [
        document("r", colour="red"),
        document("g", colour="green"),
        document("b", colour="blue"),
        document("y", colour="yellow"),
        query("a", "green", {"y": 1}, reference=["r"]),  # red + green is yellow; the reference is no candidate
        query("b", "blue", {"b": 1}, colour="red", reference="g"),  # its own image, and one of the others
        query("c", "blue", {"b": 1}),
        query("d", "blue", {"b": 1}, reference=["z"]),
    ]
    result = composed(rows)
    a, b = result.records
    assert (a["rank"], a["prediction"], a["references"]) == (1, "doc-y", ["doc-r"])
    assert (a["scores"]["recall@1/text_only"], a["scores"]["recall@1/image_only"]) == (
        0,
        1,
    )  # yellow is nearest to red too
    assert a["scores"]["recall@1/minus_text_only"] == 1
    # (red + green) / √2 and blue, half each: nearer to blue than to yellow? both 1/√2, a tie, which counts against
    assert (b["rank"], b["scores"]["recall@1/text_only"]) == (2, 1)
    assert values(result)["recall@1"] == 0.5
    assert result.protocol["exclusions"] == [
        "1 of 4 queries: an image that it starts from is not among the candidates",
        "1 of 4 queries: no image that it starts from",
    ]
    assert result.protocol["composition"].startswith("0.5 · image + 0.5 · text")
    pair = composed([*rows[:4], query("p", "", {"y": 1}, reference=["r", "g"])])
    assert pair.records[0]["rank"] == 1
    assert "skipped" in pair.protocol["controls"]


def test_images_by_another_class():
    rows = [
        sample("a", "red", "p1", hue="warm", organ=["lung"]),
        sample("b", "yellow", "p2", hue="light", organ=["lung"]),
        sample("c", "green", "p3", hue="light", organ=["liver"]),
        sample("d", "blue", "p4", hue="cold", organ=["lung"]),
        sample("e", "grey", "p5", hue="cold", organ=["brain"]),
    ]
    result = composed(rows, label="organ", change="hue", change_template="{} green")
    asked = {record["id"]: (record["query"], record["target"]) for record in result.records}
    assert asked == {  # the next class in the alphabet of which one has the organ, from the front again
        "a": ("cold green", ["d"]),
        "b": ("warm green", ["a"]),
        "d": ("light green", ["b"]),
    }
    assert result.protocol["exclusions"] == ["2 of 5 queries: no candidate of another class is relevant"]


def test_what_is_refused():
    with pytest.raises(
        TaskError, match=r"expected samples with metadata role: query and a text 'query'; text fields there"
    ):
        texts_of(DOCUMENTS)
    for kind, changes, said in (
        (TextRetrievalConfig, {"ndcg_at": [0]}, r"ndcg_at=\[0\], expected ranks of 1 or more"),
        (TextRetrievalConfig, {"relevant_from": 0}, "expected a grade above 0"),
        (TextRetrievalConfig, {"label": "x", "relevant_from": 2}, "grades of a label are shares"),
        (ComposedRetrievalConfig, {"text_weight": 2}, "expected a share"),
        (ComposedRetrievalConfig, {"label": "x"}, "give both, or neither"),
        (ComposedRetrievalConfig, {"change_template": "x"}, "needs {}"),
    ):
        with pytest.raises(ConfigError, match=said):
            kind(name="t", data="d", **changes).check()
