"""Files of templates: found by name, parsed as data that nobody vouches for, checked before any sample is made."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from medvlp.config.composition.search import search_folders
from medvlp.config.composition.yaml_files import read_text
from medvlp.config.rules import ConfigError
from medvlp.config.templates.checked import CheckedFile
from medvlp.wording.label_captions import GAP, LABEL, Templates, fold, gaps_of, is_negated

KEYS = ("modality", "fields", "templates", "negated", "normal", "labels")


def load_templates(name: str, key: str) -> Templates:
    """The templates of a name, or of a path that ends in .yaml; key: that names it. Raises ConfigError: file, key and how to fix
    it."""
    path = find_yaml(name, "templates", "or a .yaml file", key)
    text, content = read_yaml(path)
    return _Checked(path, content, KEYS).templates(hashlib.sha256(text.encode()).hexdigest())


def find_yaml(name: str, group: str, advice: str, key: str) -> Path:
    """The file of a name under configs/<group>, in the working folder or shipped, or of a path that ends in .yaml.

    Raises ConfigError for none, with the names that there are.
    """
    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise ConfigError(f"{key}={name}: there is no such file")
        return Path(name)
    roots = reversed(search_folders())
    paths = {path.stem: path for root in roots for path in (root / "configs" / group).glob("*.yaml")}
    if name not in paths:
        close = get_close_matches(name, paths, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{key}={name!r} is not known{hint} available: {', '.join(sorted(paths))}, {advice}")
    return paths[name]


def read_yaml(path: Path) -> tuple[str, Any]:
    """(text, what it says) of a file, within bounds. Raises ConfigError."""
    try:
        text = read_text(path)
        return text, yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


class _Checked(CheckedFile):
    """A parsed file, as nobody vouches for its shape."""

    def templates(self, digest: str) -> Templates:
        normal = self.mapping(self.content.get("normal", {}), "normal", ("labels", "templates"))
        fields = self.mapping(self.content.get("fields", {}), "fields")
        words = self.words()
        templates = Templates(
            name=self.path.stem,
            digest=digest,
            templates=self.sentences(self.content.get("templates", []), "templates"),
            negated=self.sentences(self.content.get("negated", []), "negated"),
            normal=self.sentences(normal.get("templates", []), "normal.templates"),
            normal_labels=frozenset(fold(t) for t in self.texts(normal.get("labels", []), "normal.labels")),
            words=words,
            fields={name: self.text(value, f"fields.{name}") for name, value in fields.items()},
            modality=self.text(self.content.get("modality", ""), "modality"),
        )
        self.check(templates)
        return templates

    def check(self, templates: Templates) -> None:
        """What holds between the parts of a file."""
        if not templates.templates:
            self.fail("templates", "lists no sentence", "give at least one, such as '{label}'")
        if bool(templates.normal) != bool(templates.normal_labels):
            self.fail("normal", "has only one of labels and templates", "give both, or none")
        for key, sentences, needs_label in (
            ("templates", templates.templates, True),
            ("negated", templates.negated, True),
            ("normal.templates", templates.normal, False),
        ):
            misfit = next((sentence for sentence in sentences if (LABEL in gaps_of(sentence)) != needs_label), None)
            if misfit is not None:
                rule = (
                    "no gap {label}"
                    if needs_label
                    else "a gap {label}, which would say 'normal' as if it were a finding"
                )
                self.fail(key, f"has {misfit!r}", f"it has {rule}")
        common = templates.normal_labels & set(templates.words or ())
        if common:
            self.fail("labels", f"describes {min(common)!r}, which normal.labels has too", "keep one of them")

    def words(self) -> dict[str, tuple[str, ...]]:
        words: dict[str, tuple[str, ...]] = {}
        for label, value in self.mapping(self.content.get("labels", {}), "labels").items():
            key = f"labels.{label}"
            texts = self.texts([value] if isinstance(value, str) else value, key)
            if not texts or not all(texts):
                self.fail(key, "is empty", "give the words that a caption uses for it")
            if len({is_negated(text) for text in texts}) > 1:
                self.fail(key, "mixes words that begin with 'no' and others", "they go into different sentences")
            if fold(label) in words:
                self.fail(key, "is there already, but for case and separators", "keep one of them")
            words[fold(label)] = texts
        return words

    def sentences(self, value: Any, key: str) -> tuple[str, ...]:
        sentences = self.texts(value, key)
        for sentence in sentences:
            if set("{}") & set(GAP.sub("", sentence)):
                self.fail(
                    key, f"has {sentence!r}", "braces hold a name alone, {label}, or an article and a name, {a label}"
                )
        return sentences
