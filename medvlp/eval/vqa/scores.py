"""Names of the scores of an answer, and what they are in words."""

from medvlp.eval.vqa.metrics import CLOSED, OPEN

Scores = dict[str, float | None]
"""Metric → score of one item; None: the item does not count in that metric's mean."""

LIKELIHOOD_PICKS = ("letter_likelihood", "mean_likelihood", "normalised_likelihood")
PICKS = (*LIKELIHOOD_PICKS, "generated", "most_similar")
STRICT = (
    "closed_accuracy",
    "open_token_recall",
    "open_token_f1",
    "open_exact_match",
    "open_bleu",
    "open_rouge_l",
    "exact_match",
)
LIKELIHOOD_METRICS = tuple(f"{name}_accuracy" for name in LIKELIHOOD_PICKS)
"""What multiple choice loses with a model that gives no likelihoods."""
CHOICE_METRICS = tuple(f"{name}_accuracy" for name in PICKS)
ANSWER_TYPES_OF = {"closed_accuracy": {CLOSED}, "open_token_recall": {OPEN}, "exact_match": {CLOSED, OPEN}}
"""Main metrics of answers in free text, and the answer types that have them."""
MAIN = (*ANSWER_TYPES_OF, *CHOICE_METRICS)
"""Metrics that are compared with their controls."""

SCORERS = {
    "closed_accuracy": "strict: the one whole word yes or no of the answer, or the exact text for other closed questions",
    "open_*, exact_match": "strict: tokens after SQuAD's normalisation extended for medicine (medvlp.eval.vqa.metrics)",
    "unparsed": "no single yes or no, a blank answer, or no single option; such answers count as wrong",
    "letter_likelihood_accuracy": "likeliest option letter behind the prompt that lists the options",
    "mean_likelihood_accuracy": "highest mean log-probability a token of the option's text, options not listed",
    "normalised_likelihood_accuracy": "highest log-probability a character of the option's text, options not listed",
    "generated_accuracy": "the option that the generated text names; options listed",
    "most_similar_accuracy": "the option most similar to the generated text (OmniMedVQA's question-answering score)",
    "llava_med/*": "LLaVA-Med's published scripts, quirks included: for comparison with papers only",
}
