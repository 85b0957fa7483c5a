"""Values of a parsed YAML file that nobody vouches for, as preparation reads them."""

from data_prep.errors import PrepError
from medvlp.config.templates import checked


class CheckedFile(checked.CheckedFile):
    """A parsed file. Every method raises PrepError: file, key, what is wrong with it, what was expected."""

    error = PrepError
