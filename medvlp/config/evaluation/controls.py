"""Conditions in which questions are asked again: what the plain score is compared with."""

IMAGE_CONTROLS = ("blank_image", "shuffled_images", "no_image", "noise_image")
"""The image is broken, another sample's, or absent: a refusal is right there."""
OPTION_CONTROLS = ("rotated_options", "none_of_the_above")
DRUG_CONTROLS = ("brand_names", "generic_names")
BIAS_CONTROLS = (
    "self_diagnosis_bias",
    "recency_bias",
    "confirmation_bias",
    "frequency_bias",
    "cultural_bias",
    "status_quo_bias",
    "false_consensus_bias",
)
"""A sentence behind the question suggests a wrong answer, each by another habit of thought."""
VARIANT_CONTROLS = (*OPTION_CONTROLS, *DRUG_CONTROLS, *BIAS_CONTROLS)
"""The question itself is put in another way."""
CONTROLS = ("best_constant", *IMAGE_CONTROLS, *VARIANT_CONTROLS)
DEFAULT_CONTROLS = CONTROLS[:3]
