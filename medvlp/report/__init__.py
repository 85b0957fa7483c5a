"""Reports: one self-contained page for a run, an evaluation or a prepared source. Nothing here imports torch."""

from medvlp.report.dataset.page import write_prep_report
from medvlp.report.dataset.provenance import write_provenance
from medvlp.report.files import NotARun
from medvlp.report.run.page import write_run_report
from medvlp.report.run.tables import results_table

__all__ = ["NotARun", "results_table", "write_prep_report", "write_provenance", "write_run_report"]
