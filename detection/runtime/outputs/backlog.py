"""`Backlog`: a queue of limited size in bytes for a broker or server that is slow or away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence, Sized
from typing import Generic, TypeVar

MAX_BYTES = 4_000_000
"""Size of the queue: some 2,500 records with ten detections each."""

Item = TypeVar("Item", bound=Sized)
"""Something whose length is its size in bytes."""


class Backlog(Generic[Item]):
    """A queue between threads, of `MAX_BYTES` at most: the oldest items are dropped and counted. The newest stays.

    Attributes:
        dropped: items that were not delivered and will not be.

    """

    def __init__(self) -> None:
        self.dropped = 0
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Add the newest."""
        with self._changed:
            self._items.append(item)
            self._bytes += len(item)
            self._shrink()
            self._changed.notify()

    def put_back(self, items: Sequence[Item]) -> None:
        """Items that were taken, in their order, to the front again."""
        with self._changed:
            self._items.extendleft(reversed(items))
            self._bytes += sum(len(item) for item in items)
            self._shrink()
            self._changed.notify()

    def take(self, timeout_s: float) -> Item | None:
        """The oldest, or None where there is none within `timeout_s` seconds, or `wake` was called."""
        with self._changed:
            if not self._items and timeout_s > 0:
                self._changed.wait(timeout_s)
            if not self._items:
                return None
            item = self._items.popleft()
            self._bytes -= len(item)
            return item

    def wake(self) -> None:
        """Let whoever waits in `take` go on."""
        with self._changed:
            self._changed.notify_all()

    def lose(self, items: int) -> None:
        """Count `items` that were taken, or never put in, as dropped."""
        with self._changed:
            self.dropped += items

    def clear(self) -> None:
        """Drop all that wait."""
        with self._changed:
            self.dropped += len(self._items)
            self._items.clear()
            self._bytes = 0

    def _shrink(self) -> None:
        while self._bytes > MAX_BYTES and len(self._items) > 1:
            self._bytes -= len(self._items.popleft())
            self.dropped += 1
