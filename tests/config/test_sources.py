"""Rules of one source of training data."""

import pytest

from medvlp.config import ConfigError, SourceConfig
from medvlp.errors import UserError

JOINED = {"both": "{caption}[ {references}]", "one": "{caption}"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"text_templates": JOINED, "text_fields": ["caption"]},
            "sources.a: text_fields and text_templates both say which texts are trained on",
        ),
        (
            {"text_templates": JOINED, "label_captions": "kind"},
            "text_templates and label_captions both say",
        ),
        (
            {"text_templates": JOINED, "text_weights": {"both": 1, "on": 2}},
            r"text_weights names 'on', which is none of text_templates; did you mean 'one'\? There are: both, one",
        ),
        ({"text_weights": {"captoin": 1}}, r"'captoin', which is none of text_fields; did you mean 'caption\*'\?"),
        ({"text_templates": JOINED, "text_weights": {"both": 1}}, "text_weights has no weight of 'one'"),
        ({"text_weights": {"caption*": 0}}, r"text_weights.caption\*=0 must be above 0"),
        ({"text_templates": {"t": "{caption"}}, "sources.a.text_templates.t='{caption': braces hold"),
        ({"label_templates": "fundus"}, "label_templates has no effect without label_captions"),
        ({"text_weights": {"x": 1}, "label_captions": "kind"}, "gives all sentences alike"),
    ],
)
def test_texts_are_said_in_one_way(options, complaint):
    with pytest.raises(UserError, match=complaint) as raised:
        SourceConfig(path="x", **options).check("a")
    assert "braces" in complaint or isinstance(raised.value, ConfigError)
