import struct
import zlib
from dataclasses import replace

import pytest

from medvlp.data.audit.problems import ERRORS, WARNINGS, Problem, ProblemCounts
from medvlp.data.audit.rules import Rules, SourceAudit, audit_sample, audit_shards
from medvlp.data.texts import FieldTexts
from medvlp.shards import Conversation, Sample, ShardDataset, Turn
from tests.assistants import vqa_samples
from tests.datasets import jpeg, write_split

INSTRUCT = Rules("conversations", FieldTexts(("caption",)), questions=False, max_pixels=10_000)
CAPTIONED = replace(INSTRUCT, questions=True)
CONTRASTIVE = Rules("pairs", FieldTexts(("caption",)), questions=False, max_pixels=10_000)
PLAIN = Rules("", FieldTexts(("caption",)), questions=False, max_pixels=10_000)
PNG_HEADER = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)


def bomb() -> bytes:
    """A PNG of 70 bytes whose header claims 144 megapixels."""
    chunks = [(b"IHDR", PNG_HEADER), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def asked(
    question: str = "<image>\nIs the heart enlarged?", answer: str = "yes", id: str | None = "q1", **metadata: object
) -> Conversation:
    turns = [Turn("user", question), Turn("assistant", answer)]
    return Conversation(turns, id, {"answer_type": "closed", **metadata})


def sample(*conversations: Conversation, **changes) -> Sample:
    """A sample of one image without any fault, but for the changes."""
    usual = {"images": {"jpg": jpeg(1)}, "conversations": list(conversations), "metadata": {"licence": "CC0-1.0"}}
    return Sample("made__1__0__0", **{**usual, **changes})


def talk(*roles: str) -> Conversation:
    texts = ["<image>\nwhat?" if role == "user" and "user" not in roles[:n] else "it" for n, role in enumerate(roles)]
    return Conversation([Turn(role, text) for role, text in zip(roles, texts, strict=True)])


CHOICES = {"answer_type": "multiple_choice", "options": {"A": "liver", "B": "heart"}, "answer_letter": "B"}
CLEAN = {
    "a question": (sample(asked()), INSTRUCT),
    "a dialogue behind a system turn": (sample(talk("system", "user", "assistant", "user", "assistant")), INSTRUCT),
    "two images": (sample(asked("<image>\n<image>\nWhich?"), images={"0.jpg": jpeg(1), "1.jpg": jpeg(2)}), INSTRUCT),
    "multiple choice by text": (sample(asked(answer="heart", **CHOICES)), INSTRUCT),
    "multiple choice by letter": (sample(asked(answer="B", **CHOICES)), INSTRUCT),
    "multiple choice by both": (sample(asked(answer="B. heart", **CHOICES)), INSTRUCT),
    "multiple choice behind thoughts": (
        sample(asked(answer="<think>It beats.</think>\n(B) The heart.", **CHOICES)),
        INSTRUCT,
    ),
    "yes, and more, under open": (sample(asked(answer="yes, on the left", answer_type="open")), INSTRUCT),
    "a caption to be asked for": (sample(texts={"caption": "A chest."}), CAPTIONED),
    "a pair": (sample(texts={"caption": "A chest."}), CONTRASTIVE),
    "a pair beside an odd conversation": (sample(talk("assistant"), texts={"caption": "A chest."}), CONTRASTIVE),
    "a caption, for nothing in particular": (sample(texts={"caption": "A chest."}), PLAIN),
}


@pytest.mark.parametrize("name", sorted(CLEAN))
def test_what_is_right_has_no_problems(name):
    clean_sample, rules = CLEAN[name]
    assert audit_sample(clean_sample, rules).problems == []


WRONG = {
    "no conversation": (sample(), INSTRUCT, [("no_conversation", "", "no conversation, and no text in caption")]),
    "a caption nobody asks for": (
        sample(texts={"caption": "A chest."}),
        INSTRUCT,
        [("no_conversation", "", "no conversation")],
    ),
    "nothing to ask for": (
        sample(texts={"caption": " "}),
        CAPTIONED,
        [("no_conversation", "", "no conversation, and no text in caption")],
    ),
    "a text that is not there": (
        sample(texts={"caption": "A chest."}),
        replace(CONTRASTIVE, texts=FieldTexts(("caption", "references"))),
        [("missing_text", "", "no references")],
    ),
    "nothing said": (sample(), PLAIN, [("nothing_said", "", "no conversation, and no text in caption")]),
    "no caption": (sample(asked()), CONTRASTIVE, [("empty_caption", "", "no text in caption")]),
    "a pair without image": (
        sample(texts={"caption": "A chest."}, images={}),
        CONTRASTIVE,
        [("not_one_image", "", "0 images, a pair has one")],
    ),
    "no answer": (sample(talk("user")), INSTRUCT, [("bad_roles", "0", "roles are user")]),
    "the assistant first": (
        sample(talk("assistant", "user")),
        INSTRUCT,
        [("bad_roles", "0", "roles are assistant, user")],
    ),
    "system in the middle": (
        sample(talk("user", "system", "assistant")),
        INSTRUCT,
        [("bad_roles", "0", "roles are user, system, assistant")],
    ),
    "no turn": (
        sample(Conversation([], "q7")),
        INSTRUCT,
        [("bad_roles", "q7", "roles are none"), ("placeholder_count", "q7", "0 × <image> for 1 images")],
    ),
    "two placeholders for one image": (
        sample(asked("<image>\n<image>\nWhat?")),
        INSTRUCT,
        [("placeholder_count", "q1", "2 × <image> for 1 images")],
    ),
    "no placeholder": (sample(asked("What?")), INSTRUCT, [("placeholder_count", "q1", "0 × <image> for 1 images")]),
    "a placeholder without image": (
        sample(asked(), images={}),
        INSTRUCT,
        [("placeholder_count", "q1", "1 × <image> for 0 images")],
    ),
    "a placeholder in the answer": (
        sample(asked("What?", "<image> this")),
        INSTRUCT,
        [("placeholder_count", "q1", "<image> stands in turn 1, which is not the user's")],
    ),
    "an empty answer": (sample(asked(answer=" \n")), INSTRUCT, [("empty_answer", "q1", "turn 1 is empty")]),
    "an empty question": (sample(asked("<image>\n")), INSTRUCT, [("empty_question", "q1", "turn 0 is empty")]),
    "faults of the second conversation": (
        sample(asked(), asked(answer="", id=None)),
        INSTRUCT,
        [("empty_answer", "1", "turn 1 is empty")],
    ),
    "an unknown answer type": (
        sample(asked(answer_type="CLOSED")),
        INSTRUCT,
        [
            (
                "unknown_answer_type",
                "q1",
                "answer_type is 'CLOSED'; known are closed, open, multiple_choice, number, set, boxes",
            )
        ],
    ),
    "an answer type that is a list": (
        sample(asked(answer_type=["open"])),
        INSTRUCT,
        [
            (
                "unknown_answer_type",
                "q1",
                "answer_type is ['open']; known are closed, open, multiple_choice, number, set, boxes",
            )
        ],
    ),
    "no answer type": (
        sample(asked(answer_type=None)),
        INSTRUCT,
        [("missing_answer_type", "q1", "there is no answer_type")],
    ),
    "yes under open": (
        sample(asked(answer="Yes.", answer_type="open")),
        INSTRUCT,
        [("yes_no_under_open", "q1", "the answer is 'Yes.', answer_type is open")],
    ),
    "no options": (
        sample(asked(answer_type="multiple_choice")),
        INSTRUCT,
        [("incomplete_options", "q1", "answer_letter is None, options are None")],
    ),
    "a letter without option": (
        sample(asked(answer="heart", **{**CHOICES, "answer_letter": ["C"]})),
        INSTRUCT,
        [("incomplete_options", "q1", "answer_letter is ['C'], options are {'A': 'liver', 'B': 'heart'}")],
    ),
    "an answer that is another option": (
        sample(asked(answer="liver", **CHOICES)),
        INSTRUCT,
        [("option_mismatch", "q1", "the answer is 'liver', option B is 'heart'")],
    ),
    "several right options": (
        sample(asked(answer="liver, heart", **{**CHOICES, "answer_letter": None, "answer_letters": ["A", "B"]})),
        INSTRUCT,
        [],
    ),
    "several letters without option": (
        sample(asked(answer="liver, heart", **{**CHOICES, "answer_letter": None, "answer_letters": ["A", "C"]})),
        INSTRUCT,
        [("incomplete_options", "q1", "answer_letters is ['A', 'C'], options are {'A': 'liver', 'B': 'heart'}")],
    ),
    "a number that is none": (
        sample(asked(answer="high", answer_type="number")),
        INSTRUCT,
        [("unreadable_number", "q1", "the answer is 'high', number_type is 'decimal'")],
    ),
    "a set without items": (
        sample(asked(answer="none", answer_type="set")),
        INSTRUCT,
        [("incomplete_set", "q1", "answer_set is None")],
    ),
    "a number and a set": (
        sample(
            asked(answer="5", answer_type="number"), asked(answer="none", answer_type="set", answer_set=[], id="q2")
        ),
        INSTRUCT,
        [],
    ),
    "mended by the reader": (
        sample(asked(mended=["conversatons", "numbers"])),
        INSTRUCT,
        [
            ("mended_conversatons", "q1", "the preparation fixed it"),
            ("mended_numbers", "q1", "the preparation fixed it"),
        ],
    ),
    "no image, no placeholder": (
        sample(asked("Is it so?"), images={}),
        INSTRUCT,
        [("no_image", "", "conversations about no image")],
    ),
    "a volume": (
        sample(asked(), images={"nii.gz": b"\x1f\x8b"}),
        INSTRUCT,
        [("volume", "", "nii.gz is a volume")],
    ),
    "too many pixels": (
        sample(asked(), images={"png": bomb()}),
        INSTRUCT,
        [("too_many_pixels", "", "png: 12000 × 12000 pixels, the cap is 10000")],
    ),
    "no licence": (
        sample(asked(), metadata={"licence": "Unknown"}),
        INSTRUCT,
        [("missing_licence", "", "licence is 'Unknown'")],
    ),
    "not a word of licence": (sample(asked(), metadata={}), INSTRUCT, [("missing_licence", "", "licence is None")]),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_wrong_has_a_name_and_a_place(name):
    faulty_sample, rules, expected = WRONG[name]
    assert audit_sample(faulty_sample, rules).problems == [Problem(*problem) for problem in expected]


def test_each_image_that_cannot_be_decoded_is_named():
    whole = jpeg(3, side=80)
    images = {"0.jpg": whole[: len(whole) // 2], "1.jpg": whole, "2.jpg": b"GIF89a"}
    problems = audit_sample(
        sample(asked("<image><image><image>"), images=images), replace(INSTRUCT, content="")
    ).problems
    broken = [(problem.name, problem.detail[:6]) for problem in problems if problem.name != "empty_question"]
    assert broken == [("undecodable_image", "0.jpg:"), ("undecodable_image", "2.jpg:")]
    assert audit_sample(sample(asked(), images={"jpg": b"GIF89a"}), replace(INSTRUCT, max_pixels=0)).problems == []


def test_every_problem_has_a_severity_and_advice():
    named = {name for _, _, expected in WRONG.values() for name, _, _ in expected}
    assert named <= ERRORS.keys() | WARNINGS.keys()
    assert not ERRORS.keys() & WARNINGS.keys()
    for name, severity in {"empty_answer": "error", "missing_licence": "warning", "turn_order": "error"}.items():
        problem = Problem(name, "", "")
        assert problem.severity == severity
        assert len(problem.advice) > 10


def names(audit: SourceAudit, *samples: Sample, rules: Rules = INSTRUCT) -> list[list[tuple[str, str]]]:
    return [[(p.name, p.detail) for p in audit.problems(audit_sample(sample, rules))] for sample in samples]


def test_questions_that_share_an_id():
    first, second = sample(asked(), asked()), replace(sample(asked(), asked(id=None)), key="made__2__0__0")
    problems = names(SourceAudit("conversations", {}), first, second)
    assert problems == [[("duplicate_id", "also in made__1__0__0")], [("duplicate_id", "also in made__1__0__0")]]


def test_pairs_that_share_an_image_or_a_text():
    first = sample(texts={"caption": "A chest."})
    same_text = replace(first, key="made__2__0__0", texts={"caption": "a  CHEST."}, images={"jpg": jpeg(2)})
    same_image = replace(first, key="made__3__0__0", texts={"caption": "Another."})
    expected = [
        [],
        [("repeated_text", "as of made__1__0__0")],
        [("repeated_image", "also in made__1__0__0")],
    ]
    assert names(SourceAudit("pairs", {}), first, same_text, same_image, rules=CONTRASTIVE) == expected
    questions = [replace(pair, conversations=[asked(id=None)]) for pair in (first, same_text, same_image)]
    assert names(SourceAudit("conversations", {}), *questions) == [[], [], []]


def test_an_image_that_is_held_out_is_counted_once():
    images = {"0.jpg": jpeg(1), "1.jpg": jpeg(2)}
    pair = sample(asked("<image>\n<image>\nWhich?"), images=images)
    again = replace(sample(asked(id="q2")), key="made__2__0__0")
    held_out = {image: ("made/test", f"t{n}") for n, image in enumerate(audit_sample(pair, INSTRUCT).images)}
    problems = names(SourceAudit("conversations", held_out), pair, again)
    assert problems == [[("shared_image", "also in made/test: t0"), ("shared_image", "also in made/test: t1")], []]


def several(number: int, images: int) -> Sample:
    return vqa_samples(number + 1, images=images)[number]


@pytest.mark.parametrize("workers", [0, 3])
def test_shards_are_looked_at_in_order_and_damage_is_named(tmp_path, workers):
    samples = vqa_samples(20)
    folder = write_split(tmp_path / "train", samples)
    dataset = ShardDataset(folder)
    tar = folder / "000001.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(samples[9].images["jpg"]) + 20] ^= 1
    tar.write_bytes(data)
    seen = list(audit_shards(dataset, PLAIN, workers))
    assert [audit.key for audit in seen] == [audit.key for audit in samples]
    assert [problem.name for problem in seen[9].problems] == ["checksum_mismatch"]
    assert all(not audit.problems for n, audit in enumerate(seen) if n != 9)


def test_counts_keep_the_first_of_each_kind():
    written: list[dict[str, str]] = []
    problems = ProblemCounts(written.append)
    kinds = [("empty_answer", "1"), ("missing_licence", ""), ("empty_answer", "2"), ("empty_answer", "1")]
    for number, (name, conversation) in enumerate(kinds):
        problems.add(Problem(name, conversation, "why").at("made", "000000.tar", f"k{number % 3}"))
    assert problems.counts == {("error", "empty_answer"): 3, ("warning", "missing_licence"): 1}
    assert problems.first["error", "empty_answer"].key == "k0"
    assert (problems.total("error"), problems.total("warning")) == (3, 1)
    assert problems.errors == {("made", "k0", "1"), ("made", "k2", "2")}
    assert written[1] == {
        "severity": "warning",
        "problem": "missing_licence",
        "source": "made",
        "file": "000000.tar",
        "key": "k1",
        "conversation": "",
        "detail": "why",
    }
    assert len(written) == 4


@pytest.mark.parametrize(
    ("answer", "metadata", "problems"),
    [
        ("<box> and <box>", {"boxes": [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]}, []),
        ("none", {"boxes": []}, []),
        ("<box>", {"boxes": [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]}, ["box_count"]),
        ("<box>", {"boxes": [[0, 0, 50, 100]]}, ["bad_boxes"]),
        ("<box>", {"boxes": [[0.5, 0, 0.1, 1]]}, ["bad_boxes"]),
        ("<box>", {"boxes": [[0, 0, 1, 1]], "box_image": 1}, ["bad_boxes"]),
        ("<box>", {}, ["bad_boxes"]),
    ],
)
def test_boxes_are_checked(answer, metadata, problems):
    turns = [Turn("user", "<image>\nWhere is it?"), Turn("assistant", answer)]
    conversation = Conversation(turns, "1", {"answer_type": "boxes", **metadata})
    sample = Sample("k", {"jpg": jpeg(0)}, conversations=[conversation], metadata={"licence": "CC0-1.0"})
    assert [problem.name for problem in audit_sample(sample, INSTRUCT).problems] == problems
