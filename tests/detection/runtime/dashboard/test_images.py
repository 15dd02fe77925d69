from __future__ import annotations

import json
import struct
import threading
import time

import cv2
import numpy as np
import pytest

from detection.runtime.dashboard.images import to_jpeg


def _unpack(body: bytes) -> tuple[dict, list[np.ndarray]]:
    length = struct.unpack(">I", body[:4])[0]
    head = json.loads(body[4 : 4 + length])
    at, images = 4 + length, []
    for image in head["images"]:
        images.append(cv2.imdecode(np.frombuffer(body[at : at + image["bytes"]], np.uint8), cv2.IMREAD_COLOR))
        at += image["bytes"]
    assert at == len(body)
    return head, images


def test_nothing_is_encoded_while_nobody_looks(open_dashboard, request_to, make_shot):
    dashboard = open_dashboard()
    for i in range(50):
        dashboard.write(*make_shot(index=i))
    assert request_to(dashboard, "/api/state")[0] == 200
    assert dashboard.images.encoded == 0


def test_viewers_share_one_encode(open_dashboard, request_to, make_shot):
    dashboard = open_dashboard()
    dashboard.write(*make_shot(index=7))
    bodies: list[bytes] = []
    viewers = [
        threading.Thread(target=lambda: bodies.append(request_to(dashboard, "/api/images?have=0:left")[2]))
        for _ in range(8)
    ]
    for viewer in viewers:
        viewer.start()
    for viewer in viewers:
        viewer.join(30)
    assert len(bodies) == 8 and dashboard.images.encoded == 1
    assert {tuple(_unpack(body)[1][0][20, 20]) for body in bodies} == {(7, 7, 7)}


def test_a_slow_viewer_gets_the_newest_alone(open_dashboard, request_to, make_shot):
    dashboard = open_dashboard()
    dashboard.write(*make_shot(index=1))
    head, _ = _unpack(request_to(dashboard, "/api/images?have=0:left")[2])
    serial = head["images"][0]["serial"]
    for i in range(2, 100):
        dashboard.write(*make_shot(index=i))
    head, images = _unpack(request_to(dashboard, f"/api/images?have={serial}:left")[2])
    assert [int(image[20, 20, 0]) for image in images] == [99]
    assert head["images"][0]["serial"] == 99 and dashboard.images.encoded == 2


def test_a_image_comes_as_soon_as_it_is_there_and_none_is_an_answer(open_dashboard, request_to, make_shot):
    dashboard = open_dashboard()
    dashboard.write(*make_shot("left", 1))
    asked = time.monotonic()
    head, images = _unpack(request_to(dashboard, "/api/images?have=1:left&have=0:nobody")[2])
    assert images == [] and 0.9 < time.monotonic() - asked
    later = threading.Timer(0.2, lambda: dashboard.write(*make_shot("right", 5, labels=(1,))))
    later.start()
    head, images = _unpack(request_to(dashboard, "/api/images?have=1:left&have=0:right")[2])
    later.join()
    (image,) = head["images"]
    assert image["camera"] == "right" and image["size_wh"] == [64, 48]
    assert image["detections"][0]["class"] == "crop"
    assert head["received_ns"] < image["captured_ns"] < head["now_ns"]


def test_strange_questions_are_refused(open_dashboard, request_to):
    dashboard = open_dashboard()
    for query in ("size=huge", "have=left", "have=-1:left", "have=x:left"):
        assert request_to(dashboard, f"/api/images?{query}")[0] == 400
    assert request_to(dashboard, "/api/events?after=x")[0] == 400


@pytest.mark.parametrize(
    ("size_hw", "sent_hw"), [((48, 64), (48, 64)), ((1080, 1920), (360, 640)), ((2, 1300), (1, 640))]
)
def test_large_images_are_sent_smaller(size_hw, sent_hw):
    jpeg = to_jpeg(np.full((*size_hw, 3), 90, np.uint8), 80, 640)
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape[:2] == sent_hw
