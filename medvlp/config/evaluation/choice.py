"""Options of multiple choice in task files: scorers, and the prompts that their protocols use."""

import re
from collections.abc import Mapping, Sequence

from medvlp.config.rules import ConfigError, one_of
from medvlp.wording.questions import CHOICE_PROMPTS, SCORERS

_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_PLACEHOLDERS = ("question", "options", "candidates", "instruction")
_ASKS_FOR_LETTER = re.compile(r"\b(?:letters?|lettre|letra|buchstaben?)\b|字母", re.IGNORECASE)


def check_choice(
    task: str, scorers: Sequence[str], prompts: Mapping[str, str], option_line: str, instructions: Sequence[str]
) -> None:
    """That every scorer gets a prompt that it can be scored on. instructions: all that the task may add.

    Raises:
        ConfigError: an unknown scorer or placeholder, or a prompt that asks for what the scorer does not read.
    """
    if not scorers:
        raise ConfigError(f"{task}: scorers=[], expected some of {', '.join(SCORERS)}")
    for scorer in [*scorers, *prompts]:
        one_of(f"{task}: scorers", scorer, SCORERS)
    if idle := [scorer for scorer in prompts if scorer not in scorers]:
        raise ConfigError(
            f"{task}: choice_prompts has a prompt for {idle[0]}, which is not among scorers={list(scorers)}"
        )
    if not {"{letter}", "{text}"} <= set(re.findall(r"\{\w*\}", option_line)):
        raise ConfigError(f"{task}: option_line={option_line!r}, expected {{letter}} and {{text}} in it")
    for scorer in scorers:
        prompt = prompts.get(scorer) or CHOICE_PROMPTS.get(scorer, "")
        key = f"{task}: choice_prompts.{scorer}"
        if not prompt:
            raise ConfigError(
                f"{key} is missing: the scorer compares texts, so its prompt has to ask for the text of an option, e.g. "
                f"'{{question}}\\nCandidates: {{candidates}}\\nReply with the text of the right one.'"
            )
        if unknown := [name for name in _PLACEHOLDER.findall(prompt) if name not in _PLACEHOLDERS]:
            listing = ", ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
            raise ConfigError(f"{key} has {{{unknown[0]}}}; expected only {listing}")
        if "{question}" not in prompt:
            raise ConfigError(f"{key}={prompt!r}, expected {{question}} in it")
        if scorer == "letter_likelihood" and "{options}" not in prompt:
            raise ConfigError(f"{key}={prompt!r}: a letter means nothing where {{options}} are not listed")
        if scorer == "most_similar":
            _check_similar(key, prompt, instructions)


def _check_similar(key: str, prompt: str, instructions: Sequence[str]) -> None:
    if "{options}" not in prompt and "{candidates}" not in prompt:
        raise ConfigError(f"{key}={prompt!r}, expected {{candidates}} (or {{options}}) in it")
    texts = [prompt, *(instructions if "{instruction}" in prompt else ())]
    if asking := [text for text in texts if _ASKS_FOR_LETTER.search(text)]:
        raise ConfigError(
            f"{key} asks for a letter ({asking[0]!r}), and the scorer compares texts: 'B' would resemble 'Bronchiectasis'. "
            f"Ask for the text of an option, or leave most_similar out of scorers"
        )
