"""Questions about images: metrics, controls and their differences, computed by hand from what a fake model says."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.templates import chat_template
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import TaskError
from medvlp.eval.models.answering import Answer
from medvlp.eval.models.assistant import AssistantModel
from medvlp.eval.trained import Trained
from medvlp.eval.vqa.aggregate import constant_scores, picks, score
from medvlp.eval.vqa.controls import NoDerangement, derangement
from medvlp.eval.vqa.questions import QuestionFilter, question_of
from medvlp.eval.vqa.responses import Response, batches_of
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.datasets import jpeg, write_split

NO_INTERVALS = Bootstrap(resamples=0)


class Oracle:
    """Answers by a function of (question, number painted into the image; None for a blank one)."""

    longest, stop_ids = 4096, ()

    def __init__(self, encoder, says, likes=None):
        self.encoder, self.says, self.likes = encoder, says, likes
        self.asked = []

    def _words(self, ids):
        text = self.encoder.decode([int(i) for i in ids if i != self.encoder.image_id])
        return text.split("<|im_start|>user\n")[-1].split("<|im_end|>")[0].strip()

    def _number(self, pixels):
        return None if not pixels.numel() or not pixels.any() else int(pixels.flatten()[0])

    def generate(self, jobs, max_new_tokens):
        self.asked += [(self._words(ids), self._number(pixels)) for ids, pixels in jobs]
        return [self.says(self._words(ids), self._number(pixels)) for ids, pixels in jobs]

    def loglikelihood(self, jobs, options):
        likelihoods = []
        for (ids, pixels), texts in zip(jobs, options, strict=True):
            decoded = [self.encoder.decode(option.tolist()) for option in texts]
            likelihoods.append(
                [(self.likes(self._words(ids), text, self._number(pixels)), len(text)) for text in decoded]
            )
        return likelihoods


@pytest.fixture(scope="module")
def encoder():
    tokenizer = tiny_tokenizer("chatml")
    return ChatEncoder(tokenizer, chat_template(tokenizer)[1], tokenizer.convert_tokens_to_ids("<image>"), 2)


def assistant_model(encoder, says, likes=None, unreadable=()):
    """The image of sample `made__3__0__0` is painted with a 3 + 1."""

    def pictures(sample):
        if sample.key in unreadable:
            raise BadSample("undecodable_image")
        number = int(sample.key.split("__")[1]) + 1
        return torch.full((len(sample.images), 3, 2, 2), float(number)) if sample.images else torch.empty(0)

    generator = Oracle(encoder, says, likes)
    generator.stop_ids = tuple(encoder.tokenizer.all_special_ids)
    return AssistantModel(generator, encoder, pictures, (1, 3, 2, 2), "oracle")


def sample(number, asked, images=1, group=None):
    """asked: (question, answer, answer type, more metadata)."""
    conversations = [
        Conversation(
            [Turn("user", "<image>\n" * images + question), Turn("assistant", answer)],
            str(index),
            {"answer_type": kind, "language": "en", **more} if kind else more,
        )
        for index, (question, answer, kind, more) in enumerate(asked)
    ]
    names = ["jpg"] if images == 1 else [f"{index}.jpg" for index in range(images)]
    return Sample(
        f"made__{number}__0__0",
        {name: jpeg(number * 10 + index) for index, name in enumerate(names)},
        conversations=conversations,
        metadata={"group": group or f"image{number}", "group_kind": "image"},
    )


def dataset(folder, samples, split="test"):
    return ShardDataset(write_split(folder / split, samples))


FOUR = [
    # image 0 to 3; a model that sees answers by the image's number
    sample(0, [("Is it large?", "Yes", "closed", {}), ("Where is it?", "left lung", "open", {"question_type": "POS"})]),
    sample(1, [("Is it large?", "No", "closed", {})]),
    sample(2, [("Is it large?", "yes", "closed", {}), ("Left or right?", "left", "closed", {})]),
    sample(3, [("Is it large?", "no", "closed", {}), ("Where is it?", "right upper lobe", "open", {})]),
]


def sees(question, number):
    """Right about the size in every image but 3, always "left lung", and lost without an image."""
    if question == "Left or right?":
        return "left"
    if question == "Where is it?":
        return "the left lung" if number else "nowhere"
    if number is None:
        return "yes no"
    return {1: "Yes, it is", 2: "no", 3: "yes", 4: "yes"}[number]


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def test_metrics_of_a_split_by_hand(tmp_path, encoder):
    made = assistant_model(encoder, sees)
    result = Vqa("made", dataset(tmp_path, FOUR), controls=(), bootstrap=NO_INTERVALS).run(made)
    scores = values(result)
    assert scores["closed_accuracy"] == pytest.approx(4 / 5)  # wrong about image 3
    assert scores["open_token_recall"] == pytest.approx((1 + 0) / 2)
    assert scores["open_token_f1"] == pytest.approx((1 + 0) / 2)
    assert scores["open_exact_match"] == pytest.approx(1 / 2)  # an article does not count
    assert scores["exact_match"] == pytest.approx((4 + 1) / 7)  # "Yes, it is" says "Yes"
    assert scores["unparsed"] == 0
    assert scores["llava_med/run_eval_batch/closed"] == pytest.approx(4 / 5)
    assert scores["llava_med/open_recall"] == pytest.approx(1 / 2)
    assert [metric.name for metric in result.metrics][:7] == [
        "closed_accuracy", "open_token_recall", "open_token_f1", "open_exact_match", "open_bleu", "open_rouge_l", "exact_match",
    ]  # fmt: skip
    counts = {metric.name: metric.n for metric in result.metrics}
    assert (counts["closed_accuracy"], counts["open_bleu"], counts["exact_match"], counts["unparsed"]) == (5, 2, 7, 7)
    # run_eval leaves an answer out that holds yes or no and misses the target, as image 3's "yes" for "no" does
    assert (counts["llava_med/run_eval/closed"], scores["llava_med/run_eval/closed"]) == (4, pytest.approx(3 / 4))


def test_a_record_holds_question_answers_and_every_score(tmp_path, encoder):
    result = Vqa("made", dataset(tmp_path, FOUR), bootstrap=NO_INTERVALS).run(assistant_model(encoder, sees))
    assert len(result.records) == 7
    record = result.records[1]
    assert {key: record[key] for key in ("id", "group", "question", "prediction", "target", "score")} == {
        "id": "made__0__0__0#1", "group": "image0", "question": "Where is it?", "prediction": "the left lung",
        "target": "left lung", "score": 1.0,
    }  # fmt: skip
    assert (record["answer_type"], record["question_type"], record["language"]) == ("open", "POS", "en")
    assert record["scores"]["open_token_recall"] == 1.0
    assert record["scores"]["llava_med/open_recall"] == 1.0
    assert record["controls"] == {"blank_image": "nowhere", "shuffled_images": "the left lung"}
    assert record["extraction"] == {"rule": "whole reply", "span": [0, 13]}
    assert result.records[0]["prediction"] == "Yes, it is"
    assert result.records[0]["extraction"] == {"rule": "leading word", "span": [0, 3]}
    assert result.protocol["extraction"] == {"leading word": 1, "whole reply": 6}


def test_controls_and_paired_differences_by_hand(tmp_path, encoder):
    made = assistant_model(encoder, sees)
    result = Vqa("made", dataset(tmp_path, FOUR), bootstrap=Bootstrap(resamples=200, seed=4)).run(made)
    scores = values(result)
    assert scores["closed_accuracy/best_constant"] == pytest.approx(2 / 5)  # "no" and "yes" are equally good
    assert scores["closed_accuracy/minus_best_constant"] == pytest.approx(2 / 5)
    assert scores["closed_accuracy/blank_image"] == pytest.approx(1 / 5)  # "yes no" is nothing, "left" is right
    assert scores["closed_accuracy/minus_blank_image"] == pytest.approx(3 / 5)
    assert scores["open_token_recall/best_constant"] == pytest.approx(1 / 2)
    assert scores["open_token_recall/minus_blank_image"] == pytest.approx(1 / 2)
    other = derangement([1, 1, 1, 1], seed=4)
    size = [sees("Is it large?", other[image][0][0] + 1) for image in range(4)]
    right = [said.lower().startswith(answer) for said, answer in zip(size, ("yes", "no", "yes", "no"), strict=True)]
    assert scores["closed_accuracy/shuffled_images"] == pytest.approx((sum(right) + 1) / 5)
    assert scores["closed_accuracy/minus_shuffled_images"] == pytest.approx((4 - sum(right) - 1) / 5)
    controls = result.protocol["controls"]
    assert controls["seed"] == 4
    assert controls["exchanged_for_an_equal_image"] == 0
    assert controls["constants"]["closed_accuracy"] in ("yes", "no", "Yes", "No")
    with_controls = {name.split("/")[0] for name in scores if "/minus_" in name}
    assert with_controls == {"closed_accuracy", "open_token_recall", "exact_match", "refused"}
    for metric in result.metrics:
        assert metric.ci_low <= metric.value <= metric.ci_high, metric


def test_a_question_that_a_server_does_not_take_in_a_control_counts_in_that_control_no_more(tmp_path, encoder):
    """A shuffled image that is too large for the server is no wrong answer, which would make a model look as if it looked."""

    def says(question, number):
        """Right without looking; the server refuses image 2 (number 3) under another one's question."""
        refused = number == 3 and question == "Is it large?" and says.is_shuffled
        return Answer("", "too_large") if refused else Answer("yes", "stop")

    samples = [sample(i, [("Is it large?", "yes", "closed", {})]) for i in range(4)]
    model = assistant_model(encoder, says)
    says.is_shuffled = False
    honest = model.gathered

    def gathered(images):
        says.is_shuffled = True
        return honest(images)

    object.__setattr__(model, "gathered", gathered)
    result = Vqa("made", dataset(tmp_path, samples), bootstrap=NO_INTERVALS, batch_size=1).run(model)
    scores, counts = values(result), {metric.name: metric.n for metric in result.metrics}
    assert counts["closed_accuracy"] == counts["closed_accuracy/blank_image"] == 4
    assert scores["closed_accuracy"] == scores["closed_accuracy/shuffled_images"] == 1
    assert counts["closed_accuracy/shuffled_images"] == counts["closed_accuracy/minus_shuffled_images"] == 3
    assert result.protocol["endings"]["shuffled_images"] == {"stop": 3, "too_large": 1}
    assert sum("shuffled_images" in record["controls"] for record in result.records) == 3


def test_only_the_controls_that_are_named_are_run(tmp_path, encoder):
    made = assistant_model(encoder, sees)
    test = dataset(tmp_path, FOUR)
    assert not [
        name for name in values(Vqa("made", test, controls=(), bootstrap=NO_INTERVALS).run(made)) if "/b" in name
    ]
    assert len(made.generator.asked) == 7
    names = values(Vqa("made", test, controls=("blank_image",), bootstrap=NO_INTERVALS).run(made))
    assert {name.split("/")[1] for name in names if name.startswith("exact_match/")} == {
        "blank_image", "minus_blank_image",
    }  # fmt: skip
    assert len(made.generator.asked) == 21


def test_saying_yes_no_to_everything_scores_nothing(tmp_path, encoder):
    scores = values(
        Vqa("made", dataset(tmp_path, FOUR), bootstrap=NO_INTERVALS).run(assistant_model(encoder, lambda *_: "yes no"))
    )
    assert scores["closed_accuracy"] == 0
    assert scores["closed_accuracy/minus_best_constant"] == pytest.approx(-2 / 5)
    assert scores["unparsed"] == pytest.approx(4 / 7)  # "left or right?" and the open ones were answered, wrongly
    assert scores["llava_med/run_eval_batch/closed"] == pytest.approx(4 / 5)  # as the published script would have it


CHOICE = [("Which organ?", "lung", "multiple_choice", {"options": {"A": "heart", "B": "lung"}, "answer_letter": "B"})]


def test_multiple_choice_by_hand(tmp_path, encoder):
    organs = {"options": {"A": "heart", "B": "lung"}}
    samples = [
        sample(0, CHOICE),
        sample(1, [("Which organ?", "heart", "multiple_choice", {**organs, "answer_letter": "A"})]),
        sample(2, CHOICE),
    ]

    def says(question, number):
        assert question.endswith("Which organ?\nA. heart\nB. lung\nOne letter.")
        return {1: "B", 2: "the heart or the lung", 3: "A"}.get(number, "")

    def likes(question, text, number):
        if text in ("A", "B"):
            assert question.endswith("A. heart\nB. lung\nOne letter.")
            return {1: 0.0, 2: -1.0, 3: 0.0}.get(number, 0.0) if text == "B" else -0.5
        assert question == "Which organ?"
        # heart: 5 letters (tokens), lung: 4; a mean of -1 against -1.05 in image 1
        return {"heart": -5.25, "lung": -4.0}[text] if number == 1 else {"heart": -1.0, "lung": -9.0}[text]

    made = assistant_model(encoder, says, likes)
    result = Vqa("made", dataset(tmp_path, samples), QuestionFilter("One letter."), bootstrap=NO_INTERVALS).run(made)
    scores = values(result)
    assert scores["letter_likelihood_accuracy"] == 1
    assert scores["mean_likelihood_accuracy"] == pytest.approx(2 / 3)
    assert scores["normalised_likelihood_accuracy"] == pytest.approx(2 / 3)
    assert scores["generated_accuracy"] == pytest.approx(1 / 3)
    assert scores["unparsed"] == pytest.approx(1 / 3)
    assert scores["generated_accuracy/best_constant"] == pytest.approx(2 / 3)
    assert scores["generated_accuracy/minus_best_constant"] == pytest.approx(-1 / 3)
    assert scores["letter_likelihood_accuracy/blank_image"] == pytest.approx(2 / 3)
    assert "closed_accuracy" not in scores
    assert "exact_match" not in scores
    assert result.protocol["controls"]["constants"]["generated_accuracy"] == "B"
    record = result.records[1]
    assert record["picks"] == {
        "letter_likelihood": "A", "mean_likelihood": "A", "normalised_likelihood": "A", "sum_likelihood": "A",
        "byte_likelihood": "A", "generated": None,
    }  # fmt: skip
    assert (record["letter"], record["target"]) == ("A", "heart")
    assert record["extraction"] == {"rule": "contradiction", "span": [0, 0]}
    assert scores["refused"] == 0


def test_options_that_tie_are_no_answer():
    question = question_of("x", Conversation([Turn("user", "?"), Turn("assistant", "a")], "1", CHOICE[0][3] | {
        "answer_type": "multiple_choice"
    }), QuestionFilter())  # fmt: skip
    tied = Response("", {"A": -1.0, "B": -1.0}, {"A": (-5.0, 5), "B": (-5.0, 5)})
    question = replace(question, options={"A": "heart", "B": "chest"})
    assert picks(question, tied) == dict.fromkeys(picks(question, tied))
    assert set(score(question, tied).values()) == {0.0, 1.0}
    assert score(question, tied)["unparsed"] == 1.0


def test_what_is_not_asked_is_counted_by_reason(tmp_path, encoder):
    samples = [
        sample(0, [("Is it?", "yes", "closed", {}), ("那是什么?", "肺", "open", {"language": "zh"})]),
        sample(1, [("Is it?", "no", "", {"language": "en"}), ("Where?", "heart", "", {"language": "en"})]),
        sample(2, [("Which?", "lung", "multiple_choice", {})]),
        sample(3, [("Is it?" * 400, "yes", "closed", {})]),
        sample(4, [("Is it?", "yes", "closed", {})]),
        replace(sample(5, []), conversations=[Conversation([Turn("user", "<image>\nIs it?")], "0")]),
    ]
    made = assistant_model(encoder, lambda *_: "yes", unreadable=["made__4__0__0"])
    made.generator.longest = 300
    result = Vqa("made", dataset(tmp_path, samples), QuestionFilter(languages=("en",)), (), NO_INTERVALS).run(made)
    protocol = result.protocol
    # the last conversation states no language
    assert protocol["excluded"] == {"language not stated": 1, "language zh": 1, "no_options": 1, "too_long": 1}
    total = protocol["n"] + 4
    assert sorted(line for line in protocol["exclusions"] if "question" in line) == [
        f"1 of {total} questions: fewer than two options, or no right one among them",
        f"1 of {total} questions: language not stated, which the task does not ask",
        f"1 of {total} questions: language zh, which the task does not ask",
        f"1 of {total} questions: too long for the model, with room for an answer",
    ]
    with pytest.raises(
        TaskError, match=r"language 'zh_cn' has no questions; did you mean 'zh' \(1 question, no language\)"
    ):
        Vqa(
            "made", dataset(tmp_path / "again", samples), QuestionFilter(languages=("en", "zh_cn")), (), NO_INTERVALS
        ).run(made)
    assert protocol["bad"] == {"undecodable_image": 1}
    assert protocol["bad_keys"] == ["made__4__0__0"]
    assert (protocol["n"], protocol["unique_images"], protocol["answer_types_inferred"]) == (3, 2, 2)
    assert protocol["answer_types"] == {"closed": 2, "open": 1}
    assert [record["answer_type"] for record in result.records] == ["closed", "closed", "open"]


@pytest.mark.parametrize(
    ("turns", "metadata", "question_filter", "reason"),
    [
        ([Turn("user", "a")], {}, QuestionFilter(), "no_answer"),
        ([Turn("user", "a"), Turn("assistant", " ")], {}, QuestionFilter(), "no_answer"),
        ([Turn("user", "a"), Turn("assistant", "b")], {}, QuestionFilter(answer_types=("closed",)), "answer_type open"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answer_type": "essay"}, QuestionFilter(), "answer_type essay"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answer_type": "multiple_choice", "options": {"A": "b"},
         "answer_letter": "A"}, QuestionFilter(), "no_options"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answer_type": "multiple_choice", "options": {"A": "b", "B": "c"},
         "answer_letter": "C"}, QuestionFilter(), "no_options"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answers": "effusion"}, QuestionFilter(), "bad_answers"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answers": 5}, QuestionFilter(), "bad_answers"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answer_type": "multiple_choice", "options": ["x", "y"],
         "answer_letter": "A"}, QuestionFilter(), "bad_options"),
        ([Turn("user", "a"), Turn("assistant", "b")], {"answer_type": "multiple_choice", "options": {"A": "b", "B": "c"},
         "answer_letters": 5}, QuestionFilter(), "bad_answer_letters"),
    ],
)  # fmt: skip
def test_conversations_that_are_no_item(turns, metadata, question_filter, reason):
    with pytest.raises(BadSample) as caught:
        question_of("x", Conversation(turns, "1", metadata), question_filter)
    assert caught.value.reason == reason


def test_a_question_is_asked_with_its_earlier_turns_and_the_instruction():
    turns = [
        Turn("user", "<image>\nIs it?"),
        Turn("assistant", "yes"),
        Turn("user", "Where?"),
        Turn("assistant", "left"),
    ]
    made = question_of("x", Conversation(turns, "1", {"answers": ["on the left", "left"]}), QuestionFilter("Be brief."))
    assert made.turns == (turns[0], turns[1], Turn("user", "Where?\nBe brief."))
    assert made.prompts == {}
    assert (made.text, made.target, made.answers) == ("Where?", "left", ("left", "on the left"))
    assert score(made, Response("On the left."))["open_exact_match"] == 1.0


def test_the_protocol_says_what_was_asked_of_whom(tmp_path, encoder):
    test = dataset(tmp_path, FOUR)
    task = Vqa(
        "made",
        test,
        QuestionFilter("Be brief."),
        (),
        NO_INTERVALS,
        trained=Trained({test.key(1): "bytes"}, ["made/train"]),
    )
    protocol = task.run(assistant_model(encoder, sees_briefly)).protocol
    assert protocol["first_prompt"].startswith("<|im_start|>user\n<image>\nIs it large?\nBe brief.<|im_end|>")
    assert (protocol["instruction"], protocol["weights"], protocol["image_tokens"]) == ("Be brief.", "oracle", 2)
    assert protocol["in_train"] == {
        "samples": 4,
        "same_bytes": 1,
        "same_picture": 0,
        "same_id": 0,
        "same_group": 0,
        "compared": ["made/train"],
        "unknown": [],
    }
    assert protocol["unique_images"] == 4
    assert (protocol["decoding"], protocol["penalties"]) == ("greedy, at most 64 tokens", "none")
    assert replace(task, trained=None).run(assistant_model(encoder, sees_briefly)).protocol["in_train"] is None


def test_questions_about_images_that_were_trained_on_are_scored_apart(tmp_path, encoder):
    test = dataset(tmp_path, FOUR)
    task = Vqa("made", test, controls=(), bootstrap=NO_INTERVALS, trained=Trained({test.key(0): "picture"}))
    plain = {metric.name: metric for metric in replace(task, trained=None).run(assistant_model(encoder, sees)).metrics}
    parts = {metric.name: metric for metric in task.run(assistant_model(encoder, sees)).metrics}
    whole = [name for name in parts if not name.endswith("in_train")]
    assert [(name, parts[name].value, parts[name].n) for name in whole] == [
        (m.name, m.value, m.n) for m in plain.values()
    ]
    for name, metric in plain.items():
        in_train, not_in_train = (parts.get(f"{name}_{part}") for part in ("in_train", "not_in_train"))
        parted = [part_metric for part_metric in (in_train, not_in_train) if part_metric is not None]
        assert sum(part_metric.n for part_metric in parted) == metric.n
        assert sum(part_metric.n * part_metric.value for part_metric in parted) == pytest.approx(
            metric.n * metric.value
        )
    assert any(name.endswith("_not_in_train") for name in parts)


def sees_briefly(question, number):
    return sees(question.removesuffix("\nBe brief."), number)


def test_a_limit_takes_questions_from_all_over_the_split(tmp_path, encoder):
    samples = [sample(number, [("Is it?", "yes", "closed", {})] * 2) for number in range(40)]
    test = dataset(tmp_path, samples)
    task = Vqa("made", test, controls=(), bootstrap=NO_INTERVALS, limit=13)
    records = task.run(assistant_model(encoder, lambda *_: "yes")).records
    asked = [int(record["id"].split("__")[1]) for record in records]
    assert len(asked) == 13
    assert len(set(asked)) == 7
    assert max(asked) > 20
    again = task.run(assistant_model(encoder, lambda *_: "yes")).records
    assert records == again


def test_nothing_to_ask_says_why(tmp_path, encoder):
    task = Vqa("made", dataset(tmp_path, FOUR), QuestionFilter(languages=("zh",)))
    with pytest.raises(TaskError, match=r"task made: no question of .*test can be asked; excluded: {'language en': 7}"):
        task.run(assistant_model(encoder, sees))


def test_several_images_are_all_exchanged(tmp_path, encoder):
    samples = [sample(number, [("Same?", "yes", "closed", {})], images) for number, images in enumerate((1, 2, 2, 3))]
    numbers = []

    def says(question, number):
        numbers.append(number)
        return "yes"

    result = Vqa("made", dataset(tmp_path, samples), bootstrap=NO_INTERVALS).run(assistant_model(encoder, says))
    assert numbers[:8] == [1, 2, 3, 4, None, None, None, None]
    assert len(numbers) == 12
    assert all(before != after for before, after in zip(numbers[:4], numbers[8:], strict=True))
    assert "shuffled_images" in result.records[0]["controls"]


def test_a_control_that_is_not_possible_is_named(tmp_path, encoder):
    single = dataset(tmp_path, FOUR[:1])
    protocol = Vqa("made", single, bootstrap=NO_INTERVALS).run(assistant_model(encoder, sees)).protocol
    assert protocol["controls"]["skipped"].startswith("shuffled_images: 1 images in 1 cases cannot all change places")
    blind = replace(FOUR[1], images={}, conversations=[
        Conversation([Turn("user", "Is it large?"), Turn("assistant", "no")], "0", {"answer_type": "closed"})
    ])  # fmt: skip
    text = dataset(tmp_path / "text", [blind])
    result = Vqa("made", text, bootstrap=NO_INTERVALS).run(assistant_model(encoder, lambda *_: "no"))
    assert result.protocol["controls"]["skipped"] == "blank_image, shuffled_images: no sample has an image"
    assert values(result)["closed_accuracy"] == 1


@pytest.mark.parametrize("images", [[1] * 5, [2, 1, 1], [3, 3], [1, 0, 2, 1, 3, 2]])
@pytest.mark.parametrize("seed", range(5))
def test_a_derangement_shows_every_image_once_and_never_in_its_own_place(images, seed):
    donors = derangement(images, seed)
    assert [len(images_of) for images_of in donors] == images
    assert Counter(position for images_of in donors for position in images_of) == Counter(
        (case, position) for case, count in enumerate(images) for position in range(count)
    )
    assert all(case != donor for case, images_of in enumerate(donors) for donor, _ in images_of)
    assert donors == derangement(images, seed)


def test_derangements_differ_by_seed_and_some_are_not_possible():
    assert len({str(derangement([1] * 6, seed)) for seed in range(20)}) > 5
    with pytest.raises(NoDerangement, match="one case has 3"):
        derangement([3, 2], 0)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([1, 1, 1], [(0, 2), (2, 3)]), ([5, 1], [(0, 1), (1, 2)]), ([1, 5], [(0, 1), (1, 2)]), ([2], [(0, 1)]), ([], [])],
)
def test_batches_hold_whole_cases(sizes, expected):
    assert [(batch.start, batch.stop) for batch in batches_of(sizes, 2)] == expected


def test_each_main_metric_has_its_own_constant():
    def item(name, answer, kind):
        return question_of(
            name,
            Conversation([Turn("user", "?"), Turn("assistant", answer)], name, {"answer_type": kind}),
            QuestionFilter(),
        )

    questions = [
        item("1", "no", "closed"),
        item("2", "left lung", "open"),
        item("3", "left kidney", "open"),
        item("4", "left lung", "open"),
    ]
    scores, constants = constant_scores(questions)
    assert constants == {"closed_accuracy": "no", "open_token_recall": "left lung", "exact_match": "left lung"}
    assert scores == [
        {"closed_accuracy": 1.0, "exact_match": 0.0},
        {"open_token_recall": 1.0, "exact_match": 1.0},
        {"open_token_recall": 0.5, "exact_match": 0.0},
        {"open_token_recall": 1.0, "exact_match": 1.0},
    ]


def test_a_model_that_ignores_the_image_is_said_to(tmp_path, encoder):
    made = assistant_model(encoder, lambda question, number: "yes" if "large" in question else "left lung")
    result = Vqa("made", dataset(tmp_path, FOUR), bootstrap=Bootstrap(resamples=200)).run(made)
    scores = values(result)
    assert (scores["visual_reliance_score"], scores["image_sensitivity"]) == (0, 0)
    assert scores["blank_image_retention"] == 1
    assert result.protocol["reliance"] == [
        "This model ignores the image: none of its 7 answers changes when the image is exchanged for another sample's.",
        "With blank images it keeps 100% of its accuracy.",
    ]
    assert result.protocol["reliance_metrics"].keys() >= {"visual_reliance_score", "hallucinated_visual_reasoning_rate"}


def test_a_model_that_uses_the_image_is_not(tmp_path, encoder):
    sizes = [("yes", "no")[number % 2] for number in range(20)]
    samples = [sample(number, [("Is it large?", size, "closed", {})]) for number, size in enumerate(sizes)]
    made = assistant_model(
        encoder,
        lambda question, number: (
            f"<think>The image shows it.</think> {sizes[number - 1]}" if number else "I cannot tell"
        ),
    )
    result = Vqa("made", dataset(tmp_path, samples), bootstrap=Bootstrap(resamples=500)).run(made)
    scores = values(result)
    assert scores["closed_accuracy"] == 1
    assert scores["visual_reliance_score"] == scores["closed_accuracy/minus_shuffled_images"] > 0
    assert scores["image_sensitivity"] == scores["visual_reliance_score"]  # every answer that changes was right before
    assert scores["hallucinated_visual_reasoning_rate"] == 1 - scores["image_sensitivity"]  # all claim to see
    assert scores["blank_image_retention"] == 0
    assert result.records[0]["reasoning"] == "The image shows it."
    assert result.protocol["reliance"][0].startswith("This model uses the image (visual reliance score +")


def test_the_instruction_is_chosen_on_valid(tmp_path, encoder):
    def says(question, number):
        return "maybe" if "Guess" in question else "no" if "Deny" in question else sees(question.split("\n")[0], number)

    valid = dataset(tmp_path, [sample(7, [("Left or right?", "left", "closed", {})])], "valid")
    made = assistant_model(encoder, says)
    instructions = {"guess": "Guess.", "brief": "Be brief.", "deny": "Deny."}
    task = Vqa("made", dataset(tmp_path, FOUR), bootstrap=Bootstrap(200), instructions=instructions, valid=valid)
    result = task.run(made)
    scores = values(result)
    assert (result.protocol["prompt_set"], result.protocol["instruction"]) == ("brief", "Be brief.")
    chosen = "best mean score on the validation split: guess 0.000, brief 1.000, deny 0.000"
    assert result.protocol["prompt_set_chosen"] == chosen
    assert scores["closed_accuracy"] == scores["closed_accuracy/prompts_best"] == pytest.approx(4 / 5)
    assert scores["closed_accuracy/prompts_median"] == pytest.approx(2 / 5)
    assert scores["closed_accuracy/prompts_worst"] == 0
    assert len(made.generator.asked) == 3 * 1 + 3 * 7 + 2 * 7  # valid, test, and the controls of the chosen one
    assert result.records[0]["scores_by_prompts"]["deny"]["closed_accuracy"] == 0
