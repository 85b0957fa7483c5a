"""`medvlp ask`: a question about an image, answered in the terminal word by word. Research use only."""

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medvlp.cli import run_verb
from medvlp.config import AskConfig, compose, verb_help
from medvlp.errors import UsageError
from medvlp.process import STOPPED, Stopped
from medvlp.terminal import read_line

if TYPE_CHECKING:
    from medvlp.verbs.models.conversation import Conversation

NOTICE = "Research use only; not for clinical use."
PROMPT = "? "
OVERRIDE = re.compile(r"[a-z][a-z_.]*=")


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp ask`; returns the exit code."""
    return run_verb("ask", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    keys = verb_help("ask").split("\n", 2)[2]
    return (
        'usage: medvlp ask checkpoint=<model> image=<file> "question"\n\n'
        f"Without a question, in a terminal: a conversation, until an empty line.\n\n{keys}"
    )


def parse(args: list[str]) -> tuple[AskConfig, str]:
    """The configuration, and the question: "" for a conversation in the terminal.

    Raises:
        UsageError: no question, and no terminal to ask for one.
        ConfigError: an unknown key or a wrong value.
    """
    overrides, question = split_args(args)
    if not question and not sys.stdin.isatty():
        raise UsageError('medvlp ask: no question; medvlp ask checkpoint=<model> image=<file> "question"')
    return compose("ask", overrides), question


def split_args(args: Sequence[str]) -> tuple[list[str], str]:
    """Overrides, and the question: all arguments that do not begin with `key=`."""
    overrides = [arg for arg in args if OVERRIDE.match(arg)]
    question = " ".join(arg for arg in args if not OVERRIDE.match(arg))
    return overrides, question.strip()


def work(settings: tuple[AskConfig, str]) -> int:
    """Answer the question, or those that are typed."""
    from medvlp.environment import choose_device, set_up_libraries

    set_up_libraries()
    config, question = settings
    try:
        device = choose_device(config.accelerator)
        from medvlp.verbs.models.conversation import Conversation, answering_model, read_image

        images = [read_image(path, config.max_pixels) for path in config.image]
        conversation = Conversation(answering_model(config, device), images, config.max_new_tokens)
        if question:
            conversation.ask(question, sys.stdout)
        else:
            talk(conversation)
    except (KeyboardInterrupt, Stopped):  # how a conversation ends, too
        print(f"\n{NOTICE}")
        return STOPPED
    print(NOTICE)
    return 0


def talk(conversation: "Conversation") -> None:
    """Ask what is typed, until an empty line; what cannot be asked is said, and the conversation goes on."""
    from medvlp.verbs.models.conversation import BadQuestion

    print(f"{NOTICE} An empty line ends.")
    while question := read_line(PROMPT):
        try:
            conversation.ask(question, sys.stdout)
        except BadQuestion as error:
            print(f"medvlp ask: {error}")
