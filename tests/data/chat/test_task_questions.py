"""Training in a task's words: the very texts that the task asks, and the answers that it wants."""

import pytest

from medvlp.builders.data import task_wording
from medvlp.config import ConfigError, VqaConfig, load_task
from medvlp.data.chat.rewriting import TaskQuestions
from medvlp.eval.answers import extract_choice
from medvlp.eval.task import TaskSettings
from medvlp.eval.vqa.questions import question_of
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from medvlp.wording.questions import ChoicePrompts, QuestionWording
from tests.datasets import jpeg, write_split
from tests.eval.colour_world import FakeDataset
from tests.shipped_tasks import SHIPPED_TASKS

OPTIONS = {"A": "Cortisol", "B": "Insulin", "C": "Glucagon"}
CHOICE = {"answer_type": "multiple_choice", "options": OPTIONS}


def conversation(id, question, answer, **metadata):
    return Conversation([Turn("user", question), Turn("assistant", answer)], id, metadata)


CONVERSATIONS = [
    conversation("one", "<image>\n<image>\nWhich lowers glucose?", "Insulin", **CHOICE, answer_letter="B"),
    conversation("two", "哪些是激素 {options}", "Insulin, Glucagon", **CHOICE, answer_letters=["B", "C"]),
    conversation("open", "<image>\nWhere?", "left lung", answer_type="open"),
    conversation("thought", "Which?", "<think>\nIt stores it.\n</think>\n\nInsulin", **CHOICE, answer_letter="B"),
]


def shards(folder, conversations=CONVERSATIONS):
    images = {f"{number}.jpg": jpeg(number) for number in (0, 1)}
    return ShardDataset(write_split(folder / "train", [Sample("a__0", images, conversations=list(conversations))]))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return shards(tmp_path_factory.mktemp("exam"))


TASKS = [name for name, task in SHIPPED_TASKS.items() if isinstance(task, VqaConfig)]


@pytest.mark.parametrize("name", TASKS)
def test_questions_are_trained_in_exactly_the_words_that_the_task_asks(name, dataset):
    config = load_task(name)
    config.answer_types, config.languages = [], []  # these decide which questions are asked, not their words
    question_filter = Vqa.from_config(config, FakeDataset([]), TaskSettings(in_training=True)).question_filter
    trained = TaskQuestions(dataset, task_wording(name)).read(0).conversations
    asked = [question_of(item.id, item, question_filter) for item in CONVERSATIONS]
    assert [item.turns[0].text for item in trained] == [question.turns[-1].text for question in asked]
    for item, question in zip(trained, asked, strict=True):  # and the answer is read as the right one
        if question.options:
            answer = item.turns[-1].text.rpartition("</think>")[2]
            assert extract_choice(answer, question.options, multiple=True).answer == question.letters


def test_answers_are_letters_or_texts_as_the_prompt_asks(dataset):
    conversations = TaskQuestions(dataset, QuestionWording("Letter.")).read(0).conversations
    assert [item.turns[-1].text for item in conversations] == [
        "B", "B, C", "left lung", "<think>\nIt stores it.\n</think>\n\nB",
    ]  # fmt: skip
    assert conversations[0].turns[0].text == (
        "<image>\n<image>\nWhich lowers glucose?\nA. Cortisol\nB. Insulin\nC. Glucagon\nLetter."
    )
    assert conversations[2].turns[0].text == "<image>\nWhere?\nLetter."
    similar = ChoicePrompts(("letter_likelihood", "most_similar"), {"most_similar": "{question} {candidates}?"})
    conversations = TaskQuestions(dataset, QuestionWording(choice=similar)).read(0).conversations
    assert conversations[0].turns[0].text.endswith("Which lowers glucose? Cortisol; Insulin; Glucagon?")
    assert [item.turns[-1].text for item in conversations[:2]] == ["Insulin", "Insulin, Glucagon"]
    assert conversations[1].turns[0].text == "哪些是激素 {options} Cortisol; Insulin; Glucagon?"


def test_another_wording_is_another_dataset(dataset):
    words = [
        QuestionWording(),
        QuestionWording("Letter."),
        QuestionWording(choice=ChoicePrompts(option_line="{letter}) {text}")),
    ]
    hashes = {TaskQuestions(dataset, wording).manifest_hash for wording in words}
    assert len(hashes | {dataset.manifest_hash}) == 4


@pytest.mark.parametrize(
    "metadata", [{"answer_letter": "D"}, {"answer_letters": ["A", "D"]}, {"options": {"A": "x"}}, {"options": []}]
)
def test_a_question_without_its_right_option_is_a_bad_sample(tmp_path, metadata):
    item = conversation("x", "Which?", "Insulin", **{**CHOICE, "answer_letter": "A", **metadata})
    with pytest.raises(BadSample, match="incomplete_options"):
        TaskQuestions(shards(tmp_path, [item]), QuestionWording()).read(0)


def test_a_task_that_asks_nothing_is_refused():
    with pytest.raises(
        ConfigError,
        match=r"data\.sources\.\*\.questions_as=breastmnist is a task of kind: zero_shot, expected .* kind: vqa",
    ):
        task_wording("breastmnist")
