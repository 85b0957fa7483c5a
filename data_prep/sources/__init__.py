"""Readers of publishers' layouts, one module a source."""

from data_prep.source import SOURCES, Dropped, PrepError, Source, Unit, descriptions, open_source, source_help

__all__ = ["SOURCES", "Dropped", "PrepError", "Source", "Unit", "descriptions", "open_source", "source_help"]
