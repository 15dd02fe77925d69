"""All outputs over the network, for as many frames as two hours have, while what they talk to comes and goes."""

from __future__ import annotations

import os
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.events import Event
from detection.runtime.outputs.mqtt import MqttOutput
from detection.runtime.outputs.prometheus import PrometheusOutput
from detection.runtime.outputs.webhook import WebhookOutput

FRAMES = 200_000


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_descriptors_and_threads_stay_flat(
    broker: Any, sample: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detection.runtime.outputs.link.LONGEST_PAUSE_S", 0.5)
    broker.start()
    events: list[Event] = []
    outputs: list[Any] = [
        MqttOutput(f"mqtt://127.0.0.1:{broker.port}?qos=1", events.append),
        WebhookOutput("http://127.0.0.1:9/?every_s=0", events.append),  # nobody is there, ever
        PrometheusOutput(0),
    ]
    call = sample.call(labels=(0, 1) * 5)
    marks = []
    worst_s = 0.0
    for i in range(FRAMES):
        started = time.perf_counter()
        for output in outputs:
            output.write(*call)
        worst_s = max(worst_s, time.perf_counter() - started)
        if i % 20_000 == 5_000:
            broker.kill()
        elif i % 20_000 == 15_000:
            broker.start()
        if i % 2_000 == 0:
            urllib.request.urlopen(f"http://127.0.0.1:{outputs[2].port}", timeout=60).read()
        if i >= FRAMES // 5 and i % (FRAMES // 10) == 0:
            eventually(lambda: outputs[0]._link._up_since_s is not None, "the broker is found again")
            marks.append((resident_mb(), len(os.listdir("/proc/self/fd")), threading.active_count()))
    for output in outputs:
        started = time.monotonic()
        output.close()
        assert time.monotonic() - started < 2
    print(f"\nworst write {worst_s * 1e3:.1f} ms; (MB, descriptors, threads): {marks}")
    megabytes, descriptors, threads = zip(*marks, strict=True)
    assert len(marks) == 8
    assert max(megabytes) - min(megabytes) < 20
    assert max(descriptors) - min(descriptors) <= 3 and max(threads) - min(threads) <= 2
    mqtt, webhook, _ = outputs
    assert mqtt.sent > FRAMES // 10 and mqtt.sent + mqtt.dropped == FRAMES
    assert webhook.sent == 0 and webhook.dropped == FRAMES
    assert [e.status for e in events if e.subject == "webhook"] == ["lost"]
    mine = [e.status for e in events if e.subject == "mqtt"]
    assert mine[:3] == ["connected", "lost", "reconnected"] and len(mine) == 1 + 2 * FRAMES // 20_000
