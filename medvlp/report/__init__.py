"""Reports: one self-contained page for a run, an evaluation or a prepared source. Nothing here imports torch."""

from medvlp.report.dataset.page import write_prep_report
from medvlp.report.dataset.provenance import write_provenance
from medvlp.report.files import NotARun
from medvlp.report.results_table import results_table
from medvlp.report.run.page import write_run_report
from medvlp.report.sweep.evaluation import read_evaluation

__all__ = ["NotARun", "read_evaluation", "results_table", "write_prep_report", "write_provenance", "write_run_report"]
