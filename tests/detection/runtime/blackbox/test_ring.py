from __future__ import annotations

import cv2
import numpy as np

from detection.runtime.blackbox.ring import Kept, Ring
from detection.runtime.detections import Detections, Frame
from detection.runtime.outputs.contract import make_record

SECOND = 1_000_000_000


def kept(at_s: float, camera: str = "front", side: int = 100) -> Kept:
    frame = Frame(np.zeros((side, side, 3), np.uint8), camera, int(at_s), int(at_s * SECOND))
    record = make_record(frame, Detections.empty(), ("weed",), age_ms=1, latency_ms={})
    return Kept(frame, camera, frame.captured_ns, Detections.empty(), record, (0.5,), "")


def wanted(ring: Ring) -> list[int]:
    found = []
    while (one := ring.take_wanted()) is not None:
        found.append(one.captured_ns // SECOND)
    return found


def test_holds_the_last_seconds() -> None:
    ring = Ring(10, 10**9)
    for second in range(30):
        ring.add(kept(second))
    assert len(ring) == 11 and ring.size_bytes == 11 * 30_000
    ring.want(0)
    assert wanted(ring) == list(range(19, 30)) and ring.lost == 0


def test_memory_is_bounded_and_a_lost_image_counted() -> None:
    ring = Ring(1000, 100_000)
    for second in range(6):
        ring.add(kept(second))
        assert ring.size_bytes <= 100_000
    ring.want(4 * SECOND)  # 4 and 5; 3 is not
    ring.add(kept(6))
    ring.want(4 * SECOND)
    assert ring.lost == 0 and len(ring) == 3
    late = kept(7)
    late.wanted = True
    ring.add(late)  # pushes out 4
    assert ring.lost == 1
    assert wanted(ring) == [5, 6, 7]


def test_what_nobody_wants_goes_first() -> None:
    ring = Ring(1000, 100_000)  # three images
    ring.add(kept(0))
    ring.want(0)
    assert not ring.crowded
    for second in range(1, 5):
        ring.add(kept(second))
    assert ring.lost == 0 and len(ring) == 3
    ring.want(3 * SECOND)
    assert ring.crowded
    assert wanted(ring) == [0, 3, 4] and not ring.crowded


def test_a_image_larger_than_the_memory_is_held_alone() -> None:
    ring = Ring(10, 1000)
    ring.add(kept(1))
    ring.add(kept(2))
    assert len(ring) == 1


def test_wanted_images_stay_until_they_are_saved() -> None:
    ring = Ring(2, 10**9)
    ring.add(kept(0))
    ring.want(0)
    ring.add(kept(100))
    assert len(ring) == 2
    assert wanted(ring) == [0]
    ring.add(kept(101))
    assert len(ring) == 2
    ring.want(0)
    ring.give_up()
    assert ring.lost == 2 and ring.take_wanted() is None


def test_packing_frees_memory_and_keeps_the_image() -> None:
    ring = Ring(10, 10**9)
    one = kept(1, side=200)
    assert one.frame is not None
    one.frame.image[50:90, 60:120] = (0, 0, 255)
    before = one.frame.image
    ring.add(one)
    assert one.file()[0] == ".png"
    assert ring.next_unpacked() is one
    ring.pack(one)
    assert ring.next_unpacked() is None and ring.size_bytes == one.size_bytes < 120_000 / 10
    suffix, content = one.file()
    again = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert suffix == ".jpg" and np.abs(again.astype(int) - before).mean() < 3


def test_a_saved_png_is_the_very_image() -> None:
    rng = np.random.default_rng(0)
    frame = Frame(rng.integers(0, 256, (37, 53, 3), dtype=np.uint8), "a", 0, 0)
    record = make_record(frame, Detections.empty(), ("weed",), age_ms=1, latency_ms={})
    content = Kept(frame, "a", 0, Detections.empty(), record, (0.5,), "").file()[1]
    assert np.array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), frame.image)
