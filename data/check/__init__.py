"""Checks of labelled images: all faults at once, as findings, JSON and an HTML page."""

from data.check.check import check, check_before_training, load_allowing, named_apart, read_parts
from data.check.findings import Finding, Report

__all__ = ["Finding", "Report", "check", "check_before_training", "load_allowing", "named_apart", "read_parts"]
