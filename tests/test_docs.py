"""What docs, help and messages name is there: keys, files, recipes, options."""

import ast
import copy
import dataclasses
import functools
import re
import shlex
import tokenize
from pathlib import Path

import pytest

from data_prep.captions.template_files import load_templates
from data_prep.sources import SOURCES, option_names
from medvlp.cli import VERBS
from medvlp.config import TASKS, PrepConfig, TrainerConfig, compose, kinds, list_options
from medvlp.config.composition.keys import field_types
from medvlp.config.composition.renamed import RENAMED_KEYS, RENAMED_OPTIONS
from medvlp.config.kinds import OPEN_MAPPINGS
from medvlp.errors import UserError
from medvlp.verbs.results.compare import KEYS as COMPARE_KEYS

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPTION_FILES = [path for folder in ("configs", "recipes") for path in sorted((ROOT / folder).rglob("*.yaml"))]
RENAMED = "## Keys with new names"
"""The section of docs/configuration.md with old names."""
PROSE = [path for path in DOCS if path.parent.name != "decisions"]  # decisions tell of what was, too
SOURCE_FILES = [path for package in ("medvlp", "data_prep") for path in sorted((ROOT / package).rglob("*.py"))]
NO_KEYS = (
    "key",
    "bytes",
    "hydra.mode",
    "weights_only",
    "backend",
    "pretrained",
    "units",
    "md5",
    "v",
    "x",
    "src",
    "sep",
    "do_sample",
    "vision_cfg.{}",
    "text_cfg",
    "factor",
    "defaults",
    "organ",
)
"""What stands before = in texts and is no key of ours: Python's, shells', addresses'."""
OF_YOUR_OWN = ("mine.yaml", "mine.py", "runs.yaml", "two_captions.py", "two_captions.yaml")
"""Files that a reader of the docs writes."""
WRITTEN_BY_READERS = ("objective.loss=distance",)
"""What a how-to adds, and then uses."""
CODE = re.compile(
    r"from_pretrained\(|torch\.load\(|namespace\(|apply_chat_template\(|add_tokens\(|np\.savez\(|from_file\("
)
"""Texts that are programs."""
PATH = re.compile(
    r"(?<![\w/.>])((?:medvlp|data_prep|configs|recipes|launch|docs|tests|benchmarks)/[\w./<>{}*-]*[\w>}*])"
)
DOTTED = re.compile(r"(?<![\w./'<\[{-])((?:data|model|objective|optim|trainer)(?:\.[a-z_*<>{}]+)+)(?![\w(/])")
"""A key without a value, as in `set model.lora.rank`."""
NO_DOTTED = ("model.vision_tower", "model.multi_modal_projector", "model.language_model", "data.**")
"""Names of tensors, and the end of a bold sentence."""
FILE_ENDINGS = (".md", ".py", ".safetensors", ".safetensors.index.json", ".json", ".jsonl", ".yaml")
MODULE = re.compile(r"(?<![\w./])((?:medvlp|data_prep|tests|benchmarks)(?:\.[a-z_]+)+)\b(?!\.)")
NO_MODULE = ("medvlp.config.model.kind", "medvlp.format", "medvlp.text_metrics")
"""Keys of a checkpoint, and a group of entry points."""
FILE_NAME = re.compile(r"(?<![\w<>{}*./-])((?:[\w-]+/)*[\w-]+\.(?:py|md|sh))\b")
OF_OTHERS = (
    "ATTRIBUTION.md",
    "leaderboard.md",
    "submit.sh",
    "fetch.py",
    "langid.py",
    "run_eval.py",
    "run_eval_batch.py",
    "checkpoint_connector.py",
)
"""Files that a preparation or an evaluation writes, and files of publishers and libraries."""
KEY = re.compile(r"(?<![\w./<\[{-])([a-z][a-z0-9_]*(?:\.(?:[a-z][a-z0-9_]*|<\w+>|\{\}|\*))*)=(?![=\s])")


def known_keys():
    schemas = [*(verb.config for verb in kinds.VERBS.values()), *(options for options, _ in TASKS.values())]
    return {key for schema in schemas for key in field_types(schema)} | {"recipes", *COMPARE_KEYS}


def is_known(key, keys):
    prefix = next((prefix for prefix in OPEN_MAPPINGS if key.startswith(prefix)), None)
    if prefix == "options.":
        return key.removeprefix(prefix) in OPTIONS | {"<name>", "{}", "<column>"}
    if prefix and OPEN_MAPPINGS[prefix] is None:
        return True  # objective.options.<name>: of a loss, whose dataclass refuses others when it is chosen
    if prefix:
        fields = field_types(OPEN_MAPPINGS[prefix])
        return key.rpartition(".")[2] in fields or key.rpartition(".")[2] in ("<field>", "{}")
    return key in keys or (
        "{}" in key and any(re.fullmatch(re.escape(key).replace(r"\{\}", ".+"), name) for name in keys)
    )


OPTIONS = {option for source in SOURCES for option in option_names(source)}


def texts_of(path):
    """(line, text) of every string of a Python file that people may see: f-strings with {} for what is filled in."""
    tree = ast.parse(path.read_text("utf-8"))
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {id(value) for value in node.values}
            yield (
                node.lineno,
                "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in node.values),
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def comments_of(path):
    """(line, text) of every comment of a Python file."""
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def prose_lines(path):
    """(number, line) of a document, without its Python code and its old names."""
    is_python = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line == RENAMED:
            return
        if line.lstrip().startswith("```"):
            is_python = line.lstrip().startswith("```python")
        elif not is_python:
            yield number, line


@functools.cache
def everything_said():
    """(where, text) of documents, strings, docstrings, comments, recipes and options."""
    return list(_everything_said())


def _everything_said():
    for path in PROSE:
        yield from ((f"{path.relative_to(ROOT)}:{number}", line) for number, line in prose_lines(path))
    for path in SOURCE_FILES:
        if path.stem in ("histogram_svg", "plot_svg", "boxes_svg", "charts"):
            continue  # drawings: their attributes look like keys
        for number, text in [*texts_of(path), *comments_of(path)]:
            if not CODE.search(text) and path.stem != "renamed":
                yield f"{path.relative_to(ROOT)}:{number}", text
    for path in OPTION_FILES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if "#" in line:
                yield f"{path.relative_to(ROOT)}:{number}", line.partition("#")[2]


def test_every_key_that_is_named_exists():
    keys = known_keys()
    said = [(location, key) for location, text in everything_said() for key in KEY.findall(text)]
    assert len(said) > 400
    assert [f"{location} {key}=" for location, key in said if key not in NO_KEYS and not is_known(key, keys)] == []


def test_every_file_that_is_named_exists():
    said = [(location, path.rstrip(".")) for location, text in everything_said() for path in PATH.findall(text)]
    assert len(said) > 40
    missing = [f"{location} {path}" for location, path in said if not list(ROOT.glob(re.sub(r"<\w+>|\{\}", "*", path)))]
    assert [line for line in missing if not line.endswith(OF_YOUR_OWN)] == []


def test_every_key_that_is_named_without_a_value_exists():
    keys = known_keys()
    groups = {key.rsplit(".", count)[0] for key in keys for count in range(1, 4)}
    said = [(location, key.rstrip(".")) for location, text in everything_said() for key in DOTTED.findall(text)]
    said = [(location, key) for location, key in said if key not in NO_DOTTED and not key.endswith(FILE_ENDINGS)]
    assert len(said) > 150
    assert [line for line in said if line[1] not in groups and not is_known(line[1], keys)] == []


def test_every_module_that_is_named_exists():
    said = [(location, module) for location, text in everything_said() for module in MODULE.findall(text)]
    assert len(said) > 20

    def exists(module):
        path = ROOT / module.replace(".", "/")
        if path.is_dir() or path.with_suffix(".py").is_file():
            return True
        holders = [
            holder for holder in (path.parent.with_suffix(".py"), path.parent / "__init__.py") if holder.is_file()
        ]
        return any(re.search(rf"\b{path.name}\b", holder.read_text("utf-8")) for holder in holders)

    assert [line for line in said if line[1] not in NO_MODULE and not exists(line[1])] == []


def test_every_file_that_is_named_without_its_folder_exists():
    paths = [path.relative_to(ROOT).as_posix() for suffix in ("py", "md", "sh") for path in ROOT.rglob(f"*.{suffix}")]
    said = [(location, name) for location, text in everything_said() for name in FILE_NAME.findall(text)]
    assert len(said) > 20
    missing = [line for line in said if not any(f"/{path}".endswith(f"/{line[1]}") for path in paths)]
    assert [line for line in missing if not line[1].endswith(OF_OTHERS + OF_YOUR_OWN)] == []


@functools.cache
def a_training():
    return compose("train", ["recipes=clip_rocov2", "data.sources.x.path=y"])


def configs_with(key):
    """Small configurations that have a key, each with the object and the field that hold it."""
    train = copy.deepcopy(a_training())
    configs = [PrepConfig(source="x", input="a", output="b"), *(kind() for kind in kinds.MODELS.values())]
    for config in [*configs, train.optim, TrainerConfig(max_steps=1)]:
        prefix = {"OptimConfig": "optim.", "TrainerConfig": "trainer."}.get(type(config).__name__, "")
        prefix = "model." if hasattr(config, "kind") else prefix
        *groups, field = key.removeprefix(prefix).split(".")
        holder = config
        for group in groups:
            holder = getattr(holder, group, None)
        if key.startswith(prefix) and dataclasses.is_dataclass(holder) and hasattr(holder, field):
            yield config, holder, field
    for kind in kinds.OBJECTIVES.values():
        if key.startswith("objective.") and hasattr(kind(), field := key.partition(".")[2]):
            objective = kind()
            yield dataclasses.replace(train, objective=objective), objective, field


def test_every_choice_that_is_named_is_one():
    said = {
        (key, value): location
        for location, text in everything_said()
        for key, value in re.findall(r"(?<![\w./<\[{-])([a-z][a-z0-9_.]*)=([a-z][a-z0-9_-]*)(?![\w<{./:*])", text)
    }
    refusals, choices = {}, set()
    for (key, value), location in said.items():
        if f"{key}={value}" in WRITTEN_BY_READERS:
            continue
        messages = []
        for config, holder, field in configs_with(key):
            if not isinstance(getattr(holder, field), str):
                continue
            setattr(holder, field, value)
            try:
                config.check()
                messages.append("")
            except UserError as error:
                messages.append(str(error))
            choices.add((key, value))
        if messages and all(f"{key}={value!r} is not a choice" in message for message in messages):
            refusals[location] = messages[0]
    assert len(choices) > 25
    assert refusals == {}


def test_the_table_of_renamed_keys_is_complete():
    table = (ROOT / "docs/configuration.md").read_text("utf-8").partition(RENAMED)[2]
    options = {
        f"{group}={old}": f"{group}={new}" for group, all_ in RENAMED_OPTIONS.items() for old, new in all_.items()
    }
    keys = {old.replace("*", "<name>"): new.replace("*", "<name>") for old, new in RENAMED_KEYS.items()}
    assert dict(re.findall(r"\| `([^`]+)`(?: \(.*\))? \| `([^`]+)` \|", table)) == options | keys


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("recipes", set(list_options("recipes"))),
        ("source", set(SOURCES)),
        ("data", set(list_options("configs/data"))),
        ("model", set(list_options("configs/model"))),
        ("objective", set(list_options("configs/objective"))),
        ("options.templates", set(list_options("configs/templates"))),
    ],
)
def test_every_option_that_is_named_exists(key, names):
    pattern = re.compile(rf"(?<![\w.]){re.escape(key)}=(\[?[a-z][a-z0-9_]*(?:,[a-z0-9_]+)*)(?![\w<{{./])")
    said = [(location, value) for location, text in everything_said() for value in pattern.findall(text)]
    assert said
    wrong = [
        (location, value) for location, value in said if not set(value.strip("[]").split(",")) <= names | {"mine", "x"}
    ]
    assert wrong == []


def test_every_verb_that_is_named_exists():
    said = [(p, verb) for p, text in everything_said() for verb in re.findall(r"`medvlp ([a-z]+)", text)]
    assert len(said) > 40
    assert [(location, verb) for location, verb in said if verb not in VERBS] == []


def commands():
    """(where, verb, arguments) of every command line of the documents beside README, which has a test of its own."""
    pattern = re.compile(r"^\s*medvlp +(train|check|eval|prep|export|ask) +(.*?)(?:\s#.*)?$")
    for path in DOCS[1:]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if (match := pattern.match(line)) and not any(word in line for word in WRITTEN_BY_READERS):
                arguments = shlex.split(re.sub(r"<[^>]*>", "folder", match[2]))
                yield f"{path.name}:{number}", match[1], [argument for argument in arguments if "=" in argument]


@pytest.mark.parametrize(("location", "verb", "arguments"), commands())
def test_every_command_of_the_documents_can_be_given(location, verb, arguments):
    defaults = {"prep": ["source=x", "output=y"], "ask": ["image=x"]}.get(verb, [])
    keys = {argument.partition("=")[0] for argument in arguments}
    extra = [argument for argument in defaults if "recipes" not in keys and argument.partition("=")[0] not in keys]
    if verb in ("train", "check") and not keys & {"recipes", "trainer.max_steps", "trainer.max_epochs"}:
        extra.append("trainer.max_steps=1")
    compose(verb, [*arguments, *extra])


def test_every_link_between_documents_leads_somewhere():
    links = [
        (path, link) for path in DOCS for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
    ]
    assert len(links) > 15
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []


def test_files_of_your_own_as_the_document_shows_them(tmp_path, monkeypatch):
    text = (ROOT / "docs/configuration.md").read_text("utf-8")
    recipe, data, templates = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    for name, content in (("recipes/own", recipe), ("configs/data/mine", data), ("configs/templates/mine", templates)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = compose("train", ["recipes=own"])
    assert (config.run_name, config.data.global_batch_size, config.model.vision.timm) == (
        "chest",
        120,
        "tf_efficientnet_lite0",
    )
    mine = config.data.sources["mine"]
    assert (sorted(config.data.sources), mine.path, mine.weight, mine.text_fields) == (
        ["mine", "rocov2"],
        "data/mine/train",
        2,
        ["caption", "findings"],
    )
    made = load_templates("mine")
    assert made.captions(["tr5"], "k") == [
        "a thyroid ultrasound showing a nodule of TI-RADS category 5",
        "a nodule of TI-RADS category 5 on a thyroid ultrasound",
    ]
    assert list_options("recipes")["own"] == "Our chest films with ROCOv2"
