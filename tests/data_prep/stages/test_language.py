import json
import subprocess
import sys
from collections import Counter

import pytest

from data_prep.draft import Draft, Drop
from data_prep.stages.language import LANGUAGES, detect, language
from medvlp.shards import Conversation, Sample, Turn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Axial CT of the chest shows a nodule in the right upper lobe.", "en"),
        ("Das Röntgenbild zeigt eine Fraktur des rechten Radius.", "de"),
        ("La radiografía de tórax muestra un derrame pleural izquierdo.", "es"),
        ("La radiographie du thorax montre un épanchement pleural.", "fr"),
        ("TC de tórax com janela para o mediastino e presença de massa.", "pt"),
        ("La radiografia del torace mostra un versamento pleurico.", "it"),
        ("胸部CT显示右肺上叶结节。", "zh"),
        ("胸部X線写真で異常を認めない。", "ja"),
        ("흉부 X선에서 이상 소견이 없습니다.", "ko"),
        ("Рентгенограмма грудной клетки в норме", "ru"),
        ("صورة الأشعة السينية للصدر طبيعية", "ar"),
        ("CT scan", "undetermined"),
        ("Chest X-ray", "undetermined"),
        ("1234567890 12.5 x 3.4 +++ 2021-03-14", "undetermined"),
        ("", "undetermined"),
        ("\ud800" * 9, "undetermined"),
    ],
)
def test_detect(text, expected):
    assert detect(text) == expected


EN, DE = "The lungs are clear and the heart is of normal size.", "Die Lunge ist frei und das Herz ist normal groß."


def conversation(text, **metadata):
    return Conversation([Turn("user", text), Turn("assistant", text)], metadata=metadata)


def test_the_language_is_written_and_counted():
    draft = language(Draft(Sample("k", texts={"caption": EN}, conversations=[conversation(DE)])))
    assert draft.sample.metadata == {"language": "en"}
    assert draft.sample.conversations[0].metadata == {"language": "de"}
    assert draft.counts == {("language", "en"): 1}


def test_a_caption_in_another_language_is_dropped():
    with pytest.raises(Drop) as caught:
        language(Draft(Sample("k", texts={"caption": DE})), keep=["en", "fr"])
    assert (caught.value.stage, caught.value.reason, caught.value.detail) == ("language", "language_not_kept", "de")


def test_short_texts_stay():
    draft = Draft(Sample("k", texts={"caption": "CT scan"}))
    assert language(draft, keep=["de"]).sample.metadata == {"language": "undetermined"}


def test_conversations_in_other_languages_are_taken_out():
    asked = [conversation(EN), conversation(DE), conversation("CT?", language="zh")]
    draft = language(Draft(Sample("k", conversations=asked)), keep=["en", "zh"])
    assert [c.metadata["language"] for c in draft.sample.conversations] == ["en", "zh"]
    assert draft.sample.metadata == {"language": "en+zh"}
    assert draft.counts == {("language", "conversations in de"): 1, ("language", "en+zh"): 1}
    with pytest.raises(Drop, match=r"en\+zh"):
        language(draft, keep=["fr"])


def test_a_sample_without_text_is_undetermined():
    assert language(Draft(Sample("k")), keep=["en"]).sample.metadata == {"language": "undetermined"}


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="cannot tell english; keep can be of en, de"):
        language(Draft(Sample("k")), keep=["english"])


def test_questions_of_slake(test_data):
    rows = json.loads((test_data / "slake_text" / "test.json").read_text())
    detected = Counter((row["q_lang"], detect(row["question"])) for row in rows)
    wrong = {pair: times for pair, times in detected.items() if pair[1] not in (pair[0], "undetermined")}
    print(dict(detected))
    assert wrong == {}
    for code in ("en", "zh"):
        asked = sum(times for (q_lang, _), times in detected.items() if q_lang == code)
        assert detected[code, code] / asked >= 0.93


def test_captions_of_roco(test_data):
    """They are English but for some 260 French ones, whose words say so, and a handful in Portuguese and Italian."""
    lines = (test_data / "roco_v1" / "captions_cc_by.jsonl").read_text().splitlines()
    captions = [json.loads(line)["caption"] for line in lines]
    detected = [(detect(caption), caption.lower().split()) for caption in captions]
    french = {
        "le",
        "la",
        "les",
        "du",
        "de",
        "une",
        "des",
        "et",
        "radiographie",
        "image",
        "aspect",
        "en",
        "au",
        "scanner",
    }
    wrong = [
        words
        for code, words in detected
        if code not in ("en", "undetermined", "pt") and not (code == "fr" and french & set(words))
    ]
    share = Counter(code for code, _ in detected)
    print(dict(share), "wrongly not English:", len(wrong))
    assert len(wrong) / len(captions) <= 0.003
    assert share["en"] / len(captions) >= 0.9
    assert share["undetermined"] / len(captions) <= 0.07


def test_the_language_does_not_depend_on_the_process():
    texts = [EN, DE, "Normal heart size, clear"]
    code = f"from data_prep.stages.language import detect; print([detect(text) for text in {texts!r}])"
    run = [sys.executable, "-c", code]
    runs = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert runs == {f"{[detect(text) for text in texts]}\n"}


def test_all_languages_are_known_to_the_model():
    from data_prep.stages.language import _identifier

    assert set(_identifier().labels) == set(LANGUAGES)
