"""What the help of every command has in common."""

from __future__ import annotations


def example(*lines: str) -> str:
    """The end of a command's help: command lines to copy."""
    return "[bold]Example[/bold]\n\n" + "\n\n".join(f"$ {line}" for line in lines)
