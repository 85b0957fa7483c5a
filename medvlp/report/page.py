"""Rendering of pages, from templates to files. Everything that comes from data is escaped; the page may load nothing."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from medvlp.report.wording import in_words
from medvlp.shards.atomic import write_whole

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["in_words"] = in_words


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Render a template to a file: whole or not at all. Names of files that are no UTF-8 are written with their bytes."""
    write_whole(path, _TEMPLATES.get_template(template).render(**values).encode("utf-8", "backslashreplace"))
    return path
