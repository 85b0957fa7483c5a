import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.config import ConfigError, compose, expand_grid, value_of
from medvlp.config.composition.keys import field_types, parse_override
from medvlp.config.composition.overrides import TEXT, TEXTS, elements, family, quoted, unquoted
from medvlp.config.kinds import VERBS
from medvlp.verbs.models.ask import split_args

ODD = [
    "Röntgen/ärzte 1/a=b,c.csv",
    "a, b",
    "~/scan #3 {final} (2).png",
    "x[1].ckpt",
    " leading and trailing ",
    "C:\\data\\",
    "it's",
    'a "b" c',
    "'a' and 'b'",
    "001",
    "1e-3",
    "true",
    "null",
    "日本語",
    "a:b",
    "$HOME",
    "key=value=more",
    "",
]
PATHS = [ODD[0], ODD[2], "null"]
TEXT_KEYS = [
    (verb, key) for verb in VERBS for key, kind in field_types(VERBS[verb].config).items() if family(kind) == TEXT
]


@pytest.mark.parametrize("text", ODD)
def test_a_text_is_what_stands_behind_the_first_equals_sign_for_every_key_of_every_verb(text):
    assert len(TEXT_KEYS) > 60
    for verb, key in TEXT_KEYS:
        wanted = None if text == "null" and key == "model.image.resize_mode" else text
        assert parse_override(verb, f"{key}={text}").value() == wanted, (verb, key)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: "${" not in text))
def test_a_text_in_quotes_or_without_them_arrives_as_it_is(text):
    assert unquoted(quoted(text)) == text
    assert parse_override("prep", f"input={quoted(text)}").value() == text
    if not (text[:1] in ("'", '"') and text[:1] == text[-1:]):
        assert parse_override("prep", f"input={text}").value() == text


@pytest.mark.parametrize(
    ("typed", "texts"),
    [
        ("a.ckpt", ["a.ckpt"]),
        ("a,b.ckpt", ["a,b.ckpt"]),
        ("[a.ckpt]", ["a.ckpt"]),
        ("[a b=1.ckpt, ü.ckpt]", ["a b=1.ckpt", "ü.ckpt"]),
        ("['a,b.ckpt',\"c\"]", ["a,b.ckpt", "c"]),
        ("[001,true]", ["001", "true"]),
        ("[it's,x]", ["it's", "x"]),
        ("[]", []),
        ("", []),
        ("[x].ckpt", ["[x].ckpt"]),
    ],
)
def test_one_value_for_a_list_is_a_list_of_one(typed, texts):
    assert elements(typed) == texts
    for verb in VERBS:
        for key, kind in field_types(VERBS[verb].config).items():
            if family(kind) == TEXTS:
                assert parse_override(verb, f"{key}={typed}").value() == texts, (verb, key)


@pytest.mark.parametrize("path", PATHS)
def test_paths_reach_the_configuration_of_every_verb(path):
    assert compose("prep", ["source=csv", f"input={path}", f"output={path}"]).input == path
    assert compose("eval", [f"checkpoints={path}", "tasks=vqa_rad"]).checkpoints == [path]
    assert compose("export", [f"checkpoint={path}", "output=x"]).checkpoint == path
    assert compose("ask", [f"checkpoint={path}", f"image={path}"]).image == [path]
    assert compose("check", [f"source={path}", f"input={path}"]).input == path


def test_training_takes_paths_too_and_names_of_sources_are_anyones():
    config = compose("train", ["recipes=clip_rocov2", "data.sources.meine-Röntgen.path=Bilder, neu/train", "seed=3"])
    assert config.data.sources["meine-Röntgen"].path == "Bilder, neu/train"
    assert config.seed == 3
    with_source = compose(
        "train", ["recipes=clip_rocov2", "data.sources.a.path=x", "data.sources.a.text_fields=view", "tasks=[]"]
    )
    assert with_source.data.sources["a"].text_fields == ["view"]
    assert compose("train", ["recipes=clip_rocov2", "data.augment.scale=[0.5,1]"]).data.augment.scale == [0.5, 1.0]


def test_a_sources_options_keep_what_was_typed():
    words = ["source=csv", "input=a", "output=b", "options.caption=Befund, Text", "options.label_separator=,"]
    more = ["options.key=001", "options.private=true", "options.texts=[a b,ü]", "options.depth=16"]
    assert compose("prep", [*words, *more]).options == {
        "caption": "Befund, Text",
        "label_separator": ",",
        "key": "001",
        "private": True,
        "texts": ["a b", "ü"],
        "depth": 16,
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=ü", r"seed=ü: 'ü' is not a whole number"),
        ("optim.lr=1,", r"optim.lr=1,: '1,' is not a number"),
        ("optim.lr=a b=c", r"is not a number"),
        ("trainer.compile=[ü", r"is not true or false"),
        ("optim.lr=1e-3,1e-4", r"several values for one key are a grid, which only `medvlp train -m` runs"),
        ("data.augment.scale=ü", r"is not numbers, such as \[0.5,1.0\]"),
        ("Röntgen=1", r"unknown key 'Röntgen'"),
        ("init_from=${oc.env:HOME}", r"type the value itself"),
        ("optim.lr=${seed}", r"type the value itself"),
        ("data.sources.x.path=${run_root}", r"type the value itself"),
        ("data=Röntgen", r"data=Röntgen: no such option"),
        ("data=[rocov2,Röntgen]", r"data=Röntgen: no such option"),
        ("recipes=Röntgen, 1", r"unknown recipe"),
    ],
)
def test_what_cannot_be_is_said_without_the_words_of_a_grammar(word, said):
    recipe = [] if word.startswith("recipes") else ["recipes=clip_rocov2"]
    with pytest.raises(ConfigError, match=said) as error:
        compose("train", [*recipe, word])
    assert not any(term in str(error.value) for term in ("Lexer", "token", "no viable", "grammar"))


def test_a_grid_divides_texts_at_commas_and_numbers_keep_their_types():
    words = ["recipes=clip_rocov2", "objective.same_text=negative,masked", "optim.lr=1e-3,1e-4", "run_name=Größe 1"]
    runs = [compose("train", cell) for cell in expand_grid("train", words, multirun=True)]
    assert [(run.objective.same_text, run.optim.lr) for run in runs] == [
        ("negative", 1e-3),
        ("negative", 1e-4),
        ("masked", 1e-3),
        ("masked", 1e-4),
    ]
    assert runs[0].run_name == "Größe 1__same_text-negative__lr-0.001"
    quoted_comma = ["recipes=clip_rocov2", "seed=0,1", "init_from='a,b.ckpt'", "data.sources.x.path=c d"]
    runs = [compose("train", cell) for cell in expand_grid("train", quoted_comma, multirun=True)]
    assert [(run.seed, run.init_from, run.data.sources["x"].path) for run in runs] == [
        (0, "a,b.ckpt", "c d"),
        (1, "a,b.ckpt", "c d"),
    ]


def test_the_value_of_a_key_is_read_before_anything_is_composed():
    assert value_of(["recipes='my eval'", "seed=1"], "recipes") == "my eval"
    assert value_of(["seed=1"], "recipes") is None


def test_ask_leaves_an_images_name_to_the_schema():
    keys, question = split_args(["checkpoint=c", "image=a, b=(1).png", "What", "is", "it?"])
    assert (compose("ask", keys).image, question) == (["a, b=(1).png"], "What is it?")


def test_check_takes_a_sources_options_as_prep_does():
    config = compose("check", ["source=csv", "input=a", "options.image=Bild, 1"])
    assert config.options == {"image": "Bild, 1"}
    with pytest.raises(ConfigError, match="input, flag and options belong to source"):
        compose("check", ["recipes=clip_rocov2", "options.image=Bild"])


@pytest.mark.parametrize(
    ("verb", "words", "said"),
    [
        ("train", ["recipes=clip_rocov2", "lr=1"], r"unknown key 'lr'; did you mean 'optim.lr'"),
        ("train", ["recipes=clip_rocov2", "max_steps=1"], r"did you mean 'trainer.max_steps'\?"),
        ("prep", ["source=dicom", "private=true"], r"a source's own options are written options.private=<value>"),
        ("check", ["source=csv", "caption=text"], r"options.caption=<value>: `medvlp prep source=<name> --help`"),
        ("prep", ["source=csv", "outptu=x"], r"did you mean 'output'\?"),
        ("eval", ["checkpoint=x"], r"did you mean 'checkpoints'\?"),
        ("export", ["quark=x"], r"unknown key 'quark'\."),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_probably_meant(verb, words, said):
    with pytest.raises(ConfigError, match=said):
        compose(verb, words)
