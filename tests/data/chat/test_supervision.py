from dataclasses import replace

import pytest

from medvlp.data.chat.supervision import WrongSupervision, check_supervision
from medvlp.shards import Conversation, Sample, Turn
from tests.data.chat.test_encoder import CHATML, PAIR, dialogue


def samples(*many: list[Turn]) -> list[Sample]:
    return [Sample(f"s-{i}", conversations=[Conversation(turns, id=f"q{i}")]) for i, turns in enumerate(many)]


def test_it_names_what_differs():
    asks = "<|im_start|>{{ m.role }}\n"
    wrong = (
        "{% for m in messages %}{% if m.role == 'user' %}"
        + asks
        + "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n{% else %}"
        + asks
        + "{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    )
    with pytest.raises(
        WrongSupervision,
        match=r"s-0, conversation q0: .*Expected \['Yes.'\], found \['Is it big\?'\]. Check model.language.template",
    ):
        check_supervision(replace(CHATML, template=wrong), samples(PAIR))


def test_it_leaves_bad_samples_to_loading_unless_all_are_bad():
    bad = dialogue("Is it?", "")
    check_supervision(CHATML, samples(bad, PAIR))
    with pytest.raises(
        WrongSupervision, match=r"no conversation of 2 samples .* s-1, conversation q1: nothing_supervised"
    ):
        check_supervision(CHATML, samples(bad, bad))
    with pytest.raises(
        WrongSupervision, match="no conversation of 1 samples can be trained on; there are no conversations"
    ):
        check_supervision(CHATML, [Sample("empty")])
