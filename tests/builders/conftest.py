import pytest

from tests.assistants import assistant_words, tiny_assistant
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import tiny_words


@pytest.fixture(scope="session")
def clip_words(tmp_path_factory):
    """Overrides of a tiny CLIP on eight pairs."""
    folder = tmp_path_factory.mktemp("builders_clip")
    write_split(folder / "made/train", pairs(8))
    tiny_architecture(folder)
    return tiny_words(folder)


@pytest.fixture(scope="session")
def llava_words(tmp_path_factory):
    """Overrides of a tiny assistant on eight samples."""
    return assistant_words(tmp_path_factory.mktemp("builders_llava"), samples=8)


@pytest.fixture(scope="session")
def assistant(tmp_path_factory):
    return tiny_assistant(tmp_path_factory.mktemp("builders_assistant"))
