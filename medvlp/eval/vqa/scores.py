"""Names of the scores of an answer, and what they are in words."""

from collections.abc import Collection

from medvlp.eval.boxes import scores as boxes
from medvlp.eval.vqa.metrics import CLOSED, OPEN

Scores = dict[str, float | None]
"""Metric → score of one item; None: the item does not count in that metric's mean."""

LIKELIHOOD_PICKS = (
    "letter_likelihood",
    "mean_likelihood",
    "normalised_likelihood",
    "sum_likelihood",
    "byte_likelihood",
)
PICKS = (*LIKELIHOOD_PICKS, "generated", "most_similar")
STRICT = (
    "closed_accuracy",
    "open_token_recall",
    "open_token_f1",
    "open_exact_match",
    "open_bleu",
    "open_rouge_l",
    "exact_match",
    "number_accuracy",
    "set_f1",
    "set_exact_match",
    "set_precision",
    "set_recall",
    *boxes.METRICS,
)
LIKELIHOOD_METRICS = tuple(f"{name}_accuracy" for name in LIKELIHOOD_PICKS)
CHOICE_METRICS = tuple(f"{name}_accuracy" for name in PICKS)
PARTIAL_CREDIT = "generated_partial_credit"
UNREAD = ("unparsed", "refused")
"""Shares of responses without an answer."""
ANSWER_TYPES_OF = {"closed_accuracy": {CLOSED}, "open_token_recall": {OPEN}, "exact_match": {CLOSED, OPEN}}
"""Main metrics of answers in free text, and the answer types that have them."""
MAIN = (*ANSWER_TYPES_OF, "number_accuracy", "set_f1", *boxes.MAIN, *CHOICE_METRICS, PARTIAL_CREDIT)
"""Metrics of which several instructions of a task are compared."""
SUGGESTED = tuple(f"{name}_suggested" for name in ("closed", *PICKS))
"""Shares of answers that are the wrong one which framings suggest."""
COMPARED = (*MAIN, UNREAD[1], *SUGGESTED)
"""Metrics that are compared with their controls."""
DECIDING = (
    "closed_accuracy",
    "open_token_recall",
    "number_accuracy",
    "set_f1",
    boxes.MAIN[1],
    "generated_accuracy",
    *CHOICE_METRICS,
)
"""Of these the first that an item has is its score."""


def likelihood_metrics(scorers: Collection[str]) -> tuple[str, ...]:
    """Metrics of the scorers that take likelihoods: what a model that gives none has no part in."""
    by_scorer = {"letter_likelihood": LIKELIHOOD_METRICS[:1], "text_likelihood": LIKELIHOOD_METRICS[1:]}
    return tuple(metric for scorer, metrics in by_scorer.items() if scorer in scorers for metric in metrics)


SCORERS = {
    "closed_accuracy": "strict: the yes or no that is read out of the reply, or the exact text for other closed questions",
    "open_*, exact_match": "strict: tokens after SQuAD's normalisation extended for medicine (medvlp.eval.vqa.metrics)",
    "number_accuracy": "the number that is read out of the reply lies within the question's bounds (medvlp.eval.answers.targets)",
    "set_*": "the items that are read out of the reply against the right ones, by their normalised tokens",
    **boxes.DESCRIPTIONS,
    "unparsed": "no answer could be read out of the reply (medvlp.eval.answers); such answers count as wrong",
    "refused": "of these, the reply says that it will not or cannot answer",
    "*_suggested": "the answer is the wrong one that the framings suggest, which the plain question does not name",
    "letter_likelihood_accuracy": "likeliest option letter behind its prompt, which lists the options",
    "mean_likelihood_accuracy": "highest mean log-probability a token of the option's text",
    "normalised_likelihood_accuracy": "highest log-probability a character of the option's text (lm-eval's acc_norm)",
    "sum_likelihood_accuracy": "highest log-probability of the option's text (lm-eval's acc)",
    "byte_likelihood_accuracy": "highest log-probability a byte of the option's text (lm-eval's acc_bytes)",
    "generated_accuracy": "the option that the generated text names; of several right ones all, and no other",
    "generated_partial_credit": "share of the right options that is named, less as much for each wrong one, at least 0",
    "most_similar_accuracy": "the option that a reply asked for as a text resembles most (OmniMedVQA's question-answering score)",
    "llava_med/*": "LLaVA-Med's published scripts, quirks included: for comparison with papers only",
}
