"""LLaVA-Med's published scores (Li 2023; llava/eval/run_eval.py and run_eval_batch.py), quirks included.

For comparison with papers only: these scores reward answers that say nothing. "yes no" is right on almost every closed
question, and a list of common words recalls most open answers. What to know when reading them:

- Both texts are normalised by the VQA challenge's rules (`normalize_word`), most scores do it twice: "none" becomes
  "0", articles vanish (the option "A" becomes the empty text, which every answer contains), and one number with a
  thousands comma makes all punctuation vanish instead of parting words.
- Closed: right where the target occurs anywhere in the answer, inside a word too ("no" in "abnormal", "0" in "10").
  run_eval looks only at answers that hold "yes" or "no" somewhere; those that hold one and still miss the target leave
  the mean altogether, so a constant "yes" scores 1.0. run_eval_batch has no such gate and keeps every item.
- F1, precision and recall count a shared word as often as the answer repeats it, the reference's count unheeded.
- Exact match is the share of the answer's words that are distinct words of the target.
- BLEU is nltk's without smoothing: a right answer of fewer than four words scores about 0.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

from medvlp.eval.vqa.metrics import CLOSED, OPEN, Score

# The tables of the VQA challenge's evaluation (Antol 2015), from where LLaVA-Med has them.
_NUMBERS = {"none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6"}
_NUMBERS |= {"seven": "7", "eight": "8", "nine": "9", "ten": "10"}
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_CONTRACTIONS_OF = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _contractions() -> dict[str, str]:
    """A contraction that misses one of its apostrophes → the contraction. One entry of the original is the wrong way."""
    table = {}
    for contraction in _CONTRACTIONS_OF.split():
        for index, character in enumerate(contraction):
            if character == "'":
                table[contraction[:index] + contraction[index + 1 :]] = contraction
    return table | {"somebody'd": "somebodyd"}


_CONTRACTIONS = _contractions()
_PERIOD = re.compile(r"\.(?!\d)")
_THOUSANDS = re.compile(r"\d,\d")
_PERIODS_DROPPED = 32
"""The original hands a regex flag to `sub` where a count is expected: the 33rd full stop and later ones stay."""


@lru_cache(maxsize=2**16)
def normalize_word(text: str) -> str:
    """glossary.normalize_word: numbers as digits, no articles, contractions with their apostrophes, no punctuation.

    Punctuation is dropped where it stands next to a space anywhere in the text, or where any digit,digit occurs; else it
    becomes a space.
    """
    has_thousands = _THOUSANDS.search(text) is not None
    cleaned = text
    for character in _PUNCTUATION:
        is_dropped = has_thousands or f"{character} " in text or f" {character}" in text
        cleaned = cleaned.replace(character, "" if is_dropped else " ")
    words = [_NUMBERS.get(word, word) for word in _PERIOD.sub("", cleaned, count=_PERIODS_DROPPED).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _once(text: str) -> str:
    """A text as the scripts hand it to their metrics."""
    return normalize_word(text.lower())


def _words(text: str) -> Counter[str]:
    """Words as the metrics then count them: they normalise again."""
    return Counter(normalize_word(_once(text)).split())


# One prediction against one target


def contains(prediction: str, target: str) -> float:
    """run_eval_batch, closed questions and open ones: the target occurs in the answer, as characters."""
    return float(_once(target) in _once(prediction))


def gated_contains(prediction: str, target: str) -> float | None:
    """run_eval, closed questions. None: the item is not counted at all."""
    answer = _once(prediction)
    if "yes" not in answer and "no" not in answer:
        return 0.0
    return 1.0 if _once(target) in answer else None


def exact_match(prediction: str, target: str) -> float:
    answer, gold = _words(prediction), _words(target)
    return len(answer.keys() & gold.keys()) / answer.total() if answer else 0.0


def recall(prediction: str, target: str) -> float:
    """The open score of the paper. A shared word counts as often as the answer has it, in denominator and numerator."""
    overlap, answer, gold = _overlap(prediction, target)
    missed = sum(count for word, count in gold.items() if word not in answer)
    return overlap / (overlap + missed) if overlap else 0.0


def precision(prediction: str, target: str) -> float:
    overlap, answer, _ = _overlap(prediction, target)
    return overlap / answer.total() if overlap else 0.0


def f1(prediction: str, target: str) -> float:
    p, r = precision(prediction, target), recall(prediction, target)
    return 2 * p * r / (p + r) if p else 0.0


def _overlap(prediction: str, target: str) -> tuple[int, Counter[str], Counter[str]]:
    answer, gold = _words(prediction), _words(target)
    return sum(count for word, count in answer.items() if word in gold), answer, gold


def bleu(prediction: str, target: str, weights: tuple[float, ...] = (0.25, 0.25, 0.25, 0.25)) -> float:
    """nltk's sentence BLEU without smoothing. bleu_1 to bleu_3 weigh one order alone, with the brevity penalty."""
    from nltk.translate.bleu_score import sentence_bleu  # here: nltk takes a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no n-gram is shared
        return float(sentence_bleu([_once(target).split()], _once(prediction).split(), weights=weights))


# One item


def _bleu_of_order(order: int) -> Callable[[str, str], float]:
    weights = tuple(float(n == order) for n in range(1, 5))
    return lambda prediction, target: bleu(prediction, target, weights)


_METRICS: dict[str, dict[str, Score]] = {
    CLOSED: {
        "llava_med/run_eval/closed": gated_contains,
        "llava_med/run_eval_batch/closed": contains,
        "llava_med/run_eval_batch/closed_recall": recall,
    },
    OPEN: {
        "llava_med/run_eval_batch/open": contains,
        "llava_med/open_recall": recall,
        "llava_med/open_precision": precision,
        "llava_med/open_f1": f1,
        "llava_med/open_exact_match": exact_match,
        "llava_med/open_bleu": bleu,
        "llava_med/open_bleu_1": _bleu_of_order(1),
        "llava_med/open_bleu_2": _bleu_of_order(2),
        "llava_med/open_bleu_3": _bleu_of_order(3),
    },
}


def llava_med_scores(prediction: str, target: str, answer_type: str) -> dict[str, float | None]:
    """Every score of LLaVA-Med's scripts for one item by name; the mean over items is theirs. None: it does not count in it.

    "closed" and "open" have different metrics; the scripts skip other answer types, so they give {}. run_eval's open score,
    which compares with the training split's answers, is not among them.
    """
    return {name: metric(prediction, target) for name, metric in _METRICS.get(answer_type, {}).items()}
