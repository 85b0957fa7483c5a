"""Readers of publishers' layouts, one module a source."""

from data_prep.source import SOURCES, Dropped, Source, Unit, descriptions, open_source, source_help

__all__ = ["SOURCES", "Dropped", "Source", "Unit", "descriptions", "open_source", "source_help"]
