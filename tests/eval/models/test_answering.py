"""A task asks any model that answers: one that gives no likelihoods, and one that takes no images."""

from dataclasses import dataclass, field, replace

from medvlp.eval.models.answering import WITHHELD, without_images
from medvlp.eval.vqa.questions import QuestionFilter
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import Conversation, Turn
from tests.eval.vqa.test_task import CHOICE, FOUR, NO_INTERVALS, dataset, sample, values


@dataclass
class Reader:
    """Answers by a function of the last turn's text; images are strings of its own."""

    says: object
    offers: tuple[str, ...] = ("generate",)
    takes_images: bool = False
    identity: str = "reader"
    prompts: list = field(default_factory=list)

    def pictures(self, sample):
        return [f"{sample.key}/{name}" for name in sorted(sample.images)]

    def gathered(self, images):
        return [pictures[position] for pictures, position in images]

    def blank(self, count):
        return ["blank"] * count

    def fits(self, turns, option_turns, images, options, max_new_tokens):
        assert all(isinstance(image, bytes) for image in images)
        return len(turns[-1].text) < 200

    def prompt_text(self, turns, images):
        return turns[-1].text

    def generate(self, prompts, max_new_tokens):
        self.prompts += prompts
        return [self.says(prompt.turns[-1].text) for prompt in prompts]

    def metadata(self):
        return {"decoding": "as a test has it"}


def test_without_likelihoods_multiple_choice_is_scored_by_what_was_generated(tmp_path):
    model = Reader(lambda text: "B" if "A. heart\nB. lung" in text else "yes", takes_images=True)
    samples = [sample(0, CHOICE), FOUR[1]]
    result = Vqa("made", dataset(tmp_path, samples), bootstrap=NO_INTERVALS).run(model)
    scores = values(result)
    assert scores["generated_accuracy"] == 1
    assert not [name for name in scores if "likelihood" in name]
    omitted = [f"{name}_likelihood_accuracy" for name in ("letter", "mean", "normalised", "sum", "byte")]
    assert result.protocol["omitted"] == dict.fromkeys(omitted, "the model offers no loglikelihood")
    assert result.protocol["decoding"] == "as a test has it"
    assert set(result.records[0]["picks"]) == {"generated"}
    assert "omitted" not in Vqa("made", dataset(tmp_path / "two", FOUR), bootstrap=NO_INTERVALS).run(model).protocol


def test_images_are_the_models_own_affair(tmp_path):
    model = Reader(lambda _: "yes", takes_images=True)
    Vqa("made", dataset(tmp_path, FOUR[:2]), bootstrap=NO_INTERVALS).run(model)
    first, second = "made__0__0__0/jpg", "made__1__0__0/jpg"
    assert [prompt.pixels for prompt in model.prompts] == [
        [first], [first], [second],
        ["blank"], ["blank"], ["blank"],
        [second], [second], [first],
    ]  # fmt: skip
    assert model.prompts[0].pixels is model.prompts[1].pixels
    assert model.prompts[3].pixels is model.prompts[5].pixels


def test_a_language_model_is_asked_without_the_images_and_the_protocol_says_so(tmp_path):
    model = Reader(lambda text: "yes" if text == "Is it large?\nBe brief." else "left")
    result = Vqa("made", dataset(tmp_path, FOUR), QuestionFilter("Be brief."), bootstrap=NO_INTERVALS).run(model)
    assert {prompt.images for prompt in model.prompts} == {0}
    assert len(model.prompts) == len(result.records) == 7  # no control asks again
    assert result.protocol["images"] == WITHHELD
    assert result.protocol["controls"]["skipped"] == f"blank_image, shuffled_images: images are {WITHHELD}"
    assert result.protocol["first_prompt"] == "Is it large?\nBe brief."
    assert values(result)["closed_accuracy"] == 3 / 5  # "yes" in 0 and 2, "left"
    turns = [Turn("user", "Is it large?"), Turn("assistant", "yes")]
    texts = [replace(FOUR[0], images={}, conversations=[Conversation(turns, "0")])]
    protocol = Vqa("made", dataset(tmp_path / "texts", texts), bootstrap=NO_INTERVALS).run(model).protocol
    assert "images" not in protocol
    assert protocol["controls"]["skipped"] == "blank_image, shuffled_images: no sample has an image"


def test_turns_without_images():
    turns = [Turn("user", "<image>\n<image>\nSame?"), Turn("assistant", "no"), Turn("user", "In <image> too?")]
    assert [turn.text for turn in without_images(turns)] == ["Same?", "no", "In  too?"]
