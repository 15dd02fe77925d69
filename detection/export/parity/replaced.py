"""torchvision's own code on given tensors: answers of a module are read, or replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn


@contextmanager
def answers_of(**modules: nn.Module) -> Iterator[dict[str, Any]]:
    """The last answer of each module, by the name given to it: a dict that fills."""
    seen: dict[str, Any] = {}
    with ExitStack() as hooks:
        for name, module in modules.items():
            handle = module.register_forward_hook(lambda _, __, answer, name=name: seen.__setitem__(name, answer))
            hooks.callback(handle.remove)
        yield seen


@contextmanager
def replaced(*answers: tuple[nn.Module, Any]) -> Iterator[None]:
    """Let modules answer what is given, whatever they would."""
    with ExitStack() as hooks:
        for module, answer in answers:
            handle = module.register_forward_hook(lambda _, __, ___, answer=answer: answer)
            hooks.callback(handle.remove)
        yield
