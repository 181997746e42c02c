"""Reporting: a run's report, its model card, and tables for the terminal. Formats numbers, computes none."""

from flantune.reporting.html import write_report
from flantune.reporting.model_card import model_card
from flantune.reporting.terminal import comparison_table, plan_table, safe

__all__ = ["comparison_table", "model_card", "plan_table", "safe", "write_report"]
