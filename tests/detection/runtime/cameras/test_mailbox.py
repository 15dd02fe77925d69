from __future__ import annotations

import threading

import numpy as np

from detection.runtime.cameras.mailbox import Mailbox
from detection.runtime.detections import Frame


def test_mailbox_keeps_the_newest() -> None:
    mailbox = Mailbox()
    frames = [Frame(np.zeros((1, 1, 3), np.uint8), "c", i, i) for i in range(5)]
    for frame in frames[:4]:
        mailbox.put(frame)
    assert mailbox.take(0) is frames[3]
    assert mailbox.dropped == 3
    assert mailbox.take(0) is None  # never the same frame twice
    mailbox.put(frames[4])
    mailbox.fail(ValueError("gone"))
    assert mailbox.take(0) is frames[4]  # what came before the failure is still given
    assert isinstance(mailbox.take(0), ValueError)


def test_closing_ends_the_wait() -> None:
    mailbox = Mailbox()
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(mailbox.take(60)))
    waiting.start()
    mailbox.close()
    waiting.join(10)
    assert not waiting.is_alive() and found == [None]
