"""What goes wrong with labelled pictures, as one clear line each."""

from __future__ import annotations


class DataError(Exception):
    """Labels or pictures the user can mend; its message is one line: what, where and what to do."""
