"""The paper's tables with runs beside them, as pages: ``tinymaml report RUNS...``."""

from .page import report

__all__ = ["report"]
