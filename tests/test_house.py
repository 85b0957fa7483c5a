"""What keeps the house in order: nouns for variables, the field's words, small folders, short lines in documents."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("medvlp", "data_prep", "benchmarks", "tests")
MOST_MODULES = 12
"""In one folder of the packages, side by side."""
MOST_LINES = 320
"""Of a module; a longer one is usually two."""
LINE = 110
"""Characters of a line in a document, but for tables and links."""

NO_NOUNS_ANYWHERE = frozenset(
    re.findall(r"\w+", "found its own there here kept shown what which one place places left gone")
)
NO_NOUNS = NO_NOUNS_ANYWHERE | frozenset(
    re.findall(
        r"\w+",
        """seen given made said told taken done chosen wanted asked ours theirs mine where how why about before after at above
        below beside inside across elsewhere apart aside again anew twice once already alone some several everything everyone
        all each every both none other others known named held stated written opened gathered joined drawn struck loaded
        described planned stored moved listed removed dropped settled shared refused lacking differing waiting entered spoken
        heard raised received begun ended began waited wrong now since until along around down of has says makes come more
        whole rest left_out passed_by""",
    )
)
"""Pronouns, participles and adverbs that name no thing."""
KEYS = {"where": "medvlp/config/data/sources.py"}
"""Options whose names are no nouns, and the file of each."""
OLD_WORDS = re.compile(
    r"\b(settl(?:e|es|ed|ing)|mend(?:s|ed|ing)?|anew|beside|aside|whoever|by heart|likeness|respondents?|replies|predictors?|"
    r"passed over|let go|hiders?|struck|glance)\b",
    re.IGNORECASE,
)
"""Words that gave way to the field's: dedup, fix, again, next to, similarity, model, response, skipped, redacted."""
ON_DISK = re.compile(r"\bmended\b|images/ beside|set[ -]aside")
"""Words of files that were written before: samples' metadata (mended), ledgers (images/ beside), runs (set-aside-*.ckpt)."""


def python_files(*packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((REPOSITORY / package).rglob("*.py"))]


def bound_names(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, name) of every variable, argument and attribute that is bound."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.lineno, node.id))
        elif isinstance(node, ast.arg):
            names.append((node.lineno, node.arg))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append((node.lineno, node.attr))
    return names


def noun_of(name: str) -> str:
    """A name without underscores at its ends and without its index letters."""
    return re.sub(r"_[A-Z][A-Z0-9]*$", "", name.strip("_")).lower()


def old_word(line: str) -> str:
    """A word of a line that gave way to another; empty where there is none."""
    match = OLD_WORDS.search(ON_DISK.sub("", line.replace("_", " ")))
    return match[0] if match else ""


def test_a_planted_name_is_seen():
    names = bound_names(ast.parse("def f(its): found_BN, self.kept = 1, 2\nfor place in x: pass\nrow = 1"))
    assert {noun_of(name) for _, name in names} & NO_NOUNS == {"its", "found", "kept", "place"}


def test_a_planted_word_is_seen():
    assert [old_word(line) for line in ("settle_threads()", "# a Likeness of two", "mended rows")] == [
        "settle",
        "Likeness",
        "",
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_variable_is_a_noun(package):
    denied = NO_NOUNS_ANYWHERE if package == "tests" else NO_NOUNS
    faults = [
        f"{path.relative_to(REPOSITORY)}:{line} {name}"
        for path in python_files(package)
        for line, name in bound_names(ast.parse(path.read_text(encoding="utf-8")))
        if noun_of(name) in denied and not name.startswith("__") and KEYS.get(name) != str(path.relative_to(REPOSITORY))
    ]
    assert faults == []


@pytest.mark.parametrize("package", ["medvlp", "data_prep"])
def test_texts_and_names_use_the_fields_words(package):
    faults = []
    for path in python_files(package):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if word := old_word(line):
                faults.append(f"{path.relative_to(REPOSITORY)}:{number} {word}")
    assert faults == []


def test_no_folder_is_crowded_and_no_module_is_long():
    folders = {path.parent for path in python_files("medvlp", "data_prep")}
    modules = {folder: [path for path in folder.glob("*.py") if path.name != "__init__.py"] for folder in folders}
    assert [folder for folder, paths in modules.items() if len(paths) > MOST_MODULES] == []
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files("medvlp", "data_prep")}
    assert [f"{path}: {lines}" for path, lines in lengths.items() if lines > MOST_LINES] == []


def test_lines_of_documents_are_short():
    documents = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")]
    faults = []
    for path in documents:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > LINE and not line.lstrip().startswith("|") and "](" not in line:
                faults.append(f"{path.relative_to(REPOSITORY)}:{number}")
    assert faults == []
