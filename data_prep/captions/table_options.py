"""Options of sources that read a table: which columns mean what, and how the table is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from data_prep.captions.captioned_files import CaptionedFileOptions
from data_prep.errors import PrepError
from data_prep.readers.tables.text_tables import Dialect, dialect_of

WORK = {"attribution": "citation", "author": "authors", "title": "article_title", "doi": "article_doi", "url": "url"}
"""Option that names a column about the work that an image is from → the sample's metadata."""

ROLES = ("caption", "label", "label_separator", "group", "key", "split", "licence", "modality")
"""Options that say what columns mean, as manifests have them, after the image's and before those of the work."""


@dataclass(frozen=True)
class TableOptions(CaptionedFileOptions):
    """Which columns of a table mean what ("" where none does), and how the table is written."""

    image_option: ClassVar[str] = "image"
    """The option that names the column of the file's path."""

    caption: str = ""
    """Column of the caption."""
    label: str = ""
    """Column of the label that templates make captions of. A label is missing only where its cell is empty: None and NA
    are classes."""
    label_separator: str = ""
    """Between several labels in a cell."""
    templates: str = ""
    """Sentences for labels: a name under configs/templates, or a .yaml file. By default generic where only labels are
    given."""
    group: str = ""
    """Column of the patient, whose samples stay in one split."""
    key: str = ""
    """Column of an id that is unique, which the sample's key is made of instead of the path."""
    split: str = ""
    """Column of the split, or one split for all rows."""
    licence: str = ""
    """Column of the licence, or one licence for all rows."""
    modality: str = ""
    """Column of the modality, or one modality for all rows."""
    texts: tuple[str, ...] = ()
    """Columns that become texts of the sample under their names."""
    labels: tuple[str, ...] = ()
    """Columns that become labels of the sample under their names."""
    attribution: str = ""
    """Column of the citation of the work that an image is from, for ATTRIBUTION.md."""
    author: str = ""
    """Column of that work's authors."""
    title: str = ""
    """Column of that work's title."""
    doi: str = ""
    """Column of that work's DOI."""
    url: str = ""
    """Column of that work's address."""
    encoding: str = ""
    """Of a text table, such as cp1252; empty: as its byte order mark says, else UTF-8."""
    separator: str = ""
    """Between the cells of a text table; empty: as the header shows."""
    quotes: str = "double"
    """Of a text table: double, backslash, or none, where a quote is a character as any other."""

    @property
    def image_column(self) -> str:
        """The column of the file's path."""
        return str(getattr(self, self.image_option))

    def work(self) -> dict[str, str]:
        """Option → column, of those that say where an image is from."""
        return {option: column for option in WORK if (column := getattr(self, option))}

    def roles(self) -> dict[str, Any]:
        """What the columns mean, for the manifest."""
        roles = {"image": self.image_column, **{role: getattr(self, role) for role in ROLES}, **self.work()}
        return {**roles, "texts": list(self.texts), "labels": list(self.labels)}

    def dialect(self) -> Dialect:
        """How a text table is written. Raises PrepError."""
        return dialect_of(self.encoding, self.separator, self.quotes)

    def refuse_people(self) -> None:
        """Raises PrepError where columns name the people behind private images."""
        if self.private and self.work():
            raise PrepError(
                f"options.{next(iter(self.work()))} is for published works, and would name people; with "
                "options.private=true remove it"
            )
