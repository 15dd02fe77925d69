"""What is wrong with labelled images: everything at once, as findings, a table, JSON and a page."""

from data.check.check import check, check_before_training, load_allowing, named_apart, read_parts
from data.check.findings import Finding, Report

__all__ = ["Finding", "Report", "check", "check_before_training", "load_allowing", "named_apart", "read_parts"]
