from dataclasses import replace

import pytest

from medvlp.builders.llava import assistant_model, blank_shape, chat_encoder, encoder_identity
from medvlp.config import ConfigError, LanguageConfig


def test_an_image_is_as_large_as_the_tower_takes_it(assistant):
    assert blank_shape(assistant) == (1, 3, 32, 32)


def test_what_decides_tokens_decides_the_identity(assistant):
    encoder = chat_encoder(assistant, LanguageConfig(source="tiny"))
    assert encoder_identity(encoder) == encoder_identity(chat_encoder(assistant, LanguageConfig(source="elsewhere")))
    for change in ({"template": "{{ messages }}"}, {"image_tokens": 9}, {"thoughts": "kept"}):
        assert encoder_identity(replace(encoder, **change)) != encoder_identity(encoder)


def test_a_template_that_does_not_exist_is_named_by_its_key(assistant):
    with pytest.raises(ConfigError, match=r"^model\.language\.template: "):
        chat_encoder(assistant, LanguageConfig(source="tiny", template="no_such_family"))


def test_tasks_get_a_model_that_answers(assistant):
    encoder = chat_encoder(assistant, LanguageConfig(source="tiny"))
    model = assistant_model(assistant, encoder, 10**6, 4, "a hash")
    assert set(model.offers) == {"generate", "loglikelihood"}
