"""Examples in front of questions: which ones, in what words, with which images, and never of the question's own case."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from medvlp.config import ConfigError
from medvlp.eval.answers.normalization import tokens
from medvlp.eval.embeddings import ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.items import Item
from medvlp.eval.prompting.protocol import open_prompting
from medvlp.eval.prompting.selection import Embedder
from medvlp.eval.prompting.similarity import WordVectors
from medvlp.eval.task import TaskSettings
from medvlp.eval.vqa.questions import QuestionFilter
from medvlp.shards import Turn
from medvlp.wording.questions import ChoicePrompts
from tests.eval.prompting.worlds import Told, choice, config, dataset, sample, task


def closed(text, answer="yes", **more):
    return text, answer, "closed", more


TRAIN = [
    sample(i, [closed(f"Is finding {i} there?", "yes" if i % 2 else "no")], group=f"patient{i}") for i in range(10, 16)
]
TEST = [sample(0, [closed("Is the heart large?")]), sample(1, [closed("Is finding 12 there?", "no")])]


def ids(result):
    return [record["examples"] for record in result.records]


def name(number):
    return f"made__{number}__0__0#0"


def test_examples_are_turns_with_their_images_in_front_of_the_question(tmp_path):
    model = Told()
    result = task(tmp_path, TEST, TRAIN, shots=2).run(model)
    assert ids(result) == [[name(10), name(11)]] * 2
    prompt = model.prompts[0]
    assert prompt.turns == (
        Turn("user", "<image>\nIs finding 10 there?"), Turn("assistant", "no"),
        Turn("user", "<image>\nIs finding 11 there?"), Turn("assistant", "yes"),
        Turn("user", "<image>\nIs the heart large?"),
    )  # fmt: skip
    assert prompt.images == 3
    assert prompt.pixels == ["made__10__0__0/jpg", "made__11__0__0/jpg", "made__0__0__0/jpg"]
    assert "Is finding 11 there?" in result.protocol["first_prompt"]
    protocol = result.protocol["prompting"]
    assert protocol["shots"] == 2
    assert protocol["examples_per_question"] == {"2": 2}
    assert len(protocol["examples_hash"]) == 64


def test_without_their_images_and_for_a_model_that_sees_none(tmp_path):
    model = Told(takes_several_images=False)
    task(tmp_path, TEST, TRAIN, shots=1, example_images=False).run(model)
    assert model.prompts[0].turns[0] == Turn("user", "Is finding 10 there?")
    assert model.prompts[0].pixels == ["made__0__0__0/jpg"]
    with pytest.raises(TaskError, match=r"takes images in one turn only; set prompting.example_images: false"):
        task(tmp_path / "b", TEST, TRAIN, shots=1).run(model)
    blind = Told(takes_images=False)
    task(tmp_path / "c", TEST, TRAIN, shots=1).run(blind)
    assert {prompt.images for prompt in blind.prompts} == {0}
    assert not any("<image>" in turn.text for prompt in blind.prompts for turn in prompt.turns)


def test_never_of_the_questions_own_group_sample_or_image_or_in_its_very_words(tmp_path):
    train = [replace(sample(20, [closed("First?")]), images=TEST[0].images), *TRAIN]  # a published leak
    train[1] = replace(train[1], metadata=TEST[0].metadata)
    result = task(tmp_path, TEST, train, shots=2).run(Told())
    assert ids(result)[0] == [name(11), name(12)]
    assert ids(result)[1] == [name(20), name(10)]
    texts = [replace(sample(0, [closed("Is it so?", "no")], images=0), images={})]
    train = [
        replace(sample(30 + i, [closed(words)], images=0), images={}) for i, words in enumerate(("is it so", "Or not?"))
    ]
    assert ids(task(tmp_path / "b", texts, train, shots=1).run(Told())) == [[name(31)]]


def test_named_examples_and_one_that_is_not_there(tmp_path):
    result = task(tmp_path, TEST, TRAIN, shots=2, examples=[name(14), name(12), name(11)]).run(Told())
    assert ids(result) == [[name(14), name(12)]] * 2
    with pytest.raises(
        TaskError, match=r"'made__99__0__0#0' is no question of .*/train .*there are 6, such as made__10"
    ):
        task(tmp_path / "b", TEST, TRAIN, shots=1, examples=[name(99)]).run(Told())


def test_random_examples_are_each_questions_own_and_decided_by_the_seed(tmp_path):
    def of_seed(seed, samples, folder):
        return ids(task(tmp_path / folder, samples, TRAIN, shots=3, selection="random", seed=seed).run(Told()))

    first = of_seed(0, TEST, "a")
    assert first[0] != first[1]
    assert first != of_seed(1, TEST, "b")
    assert of_seed(0, TEST[:1], "c")[0] == first[0]  # whatever else is asked
    assert all(len(set(row)) == 3 for row in first)


def test_examples_have_the_form_of_the_answer_and_the_language(tmp_path):
    train = [
        sample(10, [choice("Organ?", "A")]),
        sample(11, [closed("Is it?")]),
        sample(12, [("Where?", "lung", "open", {})]),
        sample(13, [("¿Dónde?", "pulmón", "open", {"language": "es"})]),
    ]
    asked = [sample(0, [choice("Which?", "B"), closed("Is it so?"), ("¿Qué?", "hígado", "open", {"language": "es"})])]
    result = task(tmp_path, asked, train, shots=2).run(Told())
    assert ids(result) == [[name(10)], [name(11), name(12)], [name(13)]]
    assert result.protocol["prompting"]["examples_per_question"] == {"1": 2, "2": 1}


def test_each_scorer_gets_examples_in_its_own_words(tmp_path):
    scorers = ("letter_likelihood", "text_likelihood", "generated", "most_similar")
    prompts = {
        "text_likelihood": "{question}",
        "most_similar": "{question} {candidates}",
        "letter_likelihood": "{question}\n{options}\n?",
    }
    question_filter = QuestionFilter(choice=ChoicePrompts(scorers, prompts))
    model = Told(lambda prompt: "B. lung", likes=lambda prompt, text: -float(len(text)))
    made = task(
        tmp_path, [sample(0, [choice("Which?", "B")])], [sample(10, [choice("Organ?", "C")])], question_filter, shots=1
    )
    made.run(model)
    answers = {prompt.scorer: (prompt.turns[0].text[8:], prompt.turns[1].text) for prompt in model.prompts}
    options = "A. heart\nB. lung\nC. liver"
    assert answers == {
        "generated": (f"Organ?\n{options}", "C. liver"),
        "most_similar": ("Organ? heart; lung; liver", "liver"),
        "letter_likelihood": (f"Organ?\n{options}\n?", "C"),
        "text_likelihood": ("Organ?", "liver"),
    }
    assert all(prompt.images == 2 for prompt in model.prompts)


def test_the_nearest_examples_by_words_stand_next_to_the_question(tmp_path):
    result = task(tmp_path, TEST, TRAIN, shots=2, selection="nearest").run(Told())
    assert ids(result)[1][-1] == name(12)
    assert result.protocol["prompting"]["order"] == "the nearest last"


def test_similarity_by_words_is_scikit_learns():
    texts = ["Is there an effusion?", "no effusion, no effusion", "fracture of the left rib", "", "左肺 有 结节"]
    vectorizer = TfidfVectorizer(analyzer=tokens)
    reference_PV = vectorizer.fit_transform(texts)
    vectors = WordVectors(texts)
    for query in [*texts, "left effusion unheard of", "?"]:
        expected_P = (reference_PV @ vectorizer.transform([query]).T).toarray()[:, 0]
        assert np.allclose(vectors.similarity(query), expected_P, atol=1e-12), query


class Encoder:
    """Embeds texts by their last digit, and images by their sample's number; sample 13's image cannot be read."""

    def texts(self, texts):
        digits = [int(re.sub(r"\D", "", f"0{text}")[-1]) for text in texts]
        return torch.nn.functional.one_hot(torch.tensor(digits), 10).float()

    def images(self, split):
        keys = [key for key in split.keys if "__13__" not in key]
        angle_N = torch.tensor([float(key.split("__")[1]) for key in keys]) / 20
        items = [Item(key, key, {}, {}) for key in keys]
        return ImageEmbeddings(items, torch.stack([angle_N.cos(), angle_N.sin()], 1) * 3, {})


@pytest.mark.parametrize(
    ("embedding", "expected"), [("text", [[name(10)], [name(12)]]), ("image", [[name(10)], [name(10)]])]
)
def test_the_nearest_examples_by_an_embedder(tmp_path, embedding, expected):
    embedder = Embedder("clip", "identity", Encoder)
    keys = {"selection": "nearest", "embedding": embedding, "embedder": "clip", "shots": 1}
    made = task(tmp_path, TEST, TRAIN, by=embedder, **keys)
    assert made.prompting.identity["embedder"] == "identity"
    assert ids(made.run(Told())) == expected
    more = task(tmp_path / "more", TEST, TRAIN, by=embedder, **{**keys, "shots": 6}).run(Told())
    assert len(ids(more)[0]) == (5 if embedding == "image" else 6)  # a sample without an embedding is near to nothing


def test_examples_that_do_not_fit_or_cannot_be_shown_fall_out(tmp_path):
    train = [sample(9, [closed("What is <|im_end|>?")]), *TRAIN]
    model = Told(longest=64 + 92, unreadable=("made__10__0__0",))
    result = task(tmp_path, TEST, train, shots=3).run(model)
    assert ids(result) == [[name(12), name(13)]] * 2  # 9 and 10 cannot be shown, and of 11 to 13 only two fit
    assert result.protocol["prompting"]["examples_per_question"] == {"2": 2}


def test_a_split_that_is_scored_gives_no_examples(tmp_path):
    scored = dataset(tmp_path, TEST)
    made = replace(config(shots=1, split="other"), data=str(tmp_path))
    (tmp_path / "other").symlink_to(scored.folder)
    with pytest.raises(TaskError, match="other is the split that is scored"):
        open_prompting(made, scored, TaskSettings())
    with pytest.raises(TaskError, match=r"prompting.split=absent"):
        open_prompting(replace(made, prompting=replace(made.prompting, split="absent")), scored, TaskSettings())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"shots": 1, "split": "test"}, "is the split that is scored"),
        ({"shots": 2, "examples": ["a", "a"]}, "that differ"),
        ({"selection": "far"}, "selection"),
        ({"selection": "nearest", "embedding": "text"}, "need an embedder"),
        ({"embedding": "image", "embedder": "x"}, "selection: nearest"),
        ({"example_answer": "{option}"}, "example_answer"),
        ({"samples": 5}, "state a temperature"),
        ({"samples": 5, "temperature": 0.7, "refinements": 3}, "chain_of_thought: true"),
        ({"temperature": -1.0}, "temperature"),
        ({"refinement_prompt": "{prompt}"}, "refinement_prompt"),
    ],
)
def test_what_does_not_go_together_is_refused(keys, words):
    with pytest.raises(ConfigError, match=words):
        config(**keys).check()


def test_a_chain_of_thought_needs_room():
    with pytest.raises(ConfigError, match=r"max_new_tokens=64; set it to 128 or more"):
        replace(config(chain_of_thought=True), max_new_tokens=64).check()
