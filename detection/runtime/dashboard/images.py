"""`Images`: JPEGs for viewers, encoded on demand, once for all viewers."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.runtime.dashboard.live_state import LiveState, ShownFrame

WIDTHS = {"small": 640, "large": 1280}
"""Pixels of the image's width as it is sent; a smaller image is sent as it is."""

_QUALITY = 80
_POLL_S = 0.01


class Images:
    """The newest images as JPEGs without boxes (the page draws boxes, sharp at any size).

    No queue builds up for a slow viewer: it requests images newer than those that it has, and gets the newest.

    Args:
        state: where images come from.

    Attributes:
        encoded: JPEGs made so far.

    """

    def __init__(self, state: LiveState) -> None:
        self._state = state
        self._ready: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._making: dict[tuple[str, str], asyncio.Lock] = {}
        self.encoded = 0
        self.workers = ThreadPoolExecutor(2, thread_name_prefix="dashboard", initializer=_lower_priority)

    async def newer(
        self, have: Mapping[str, int], size: str, *, wait_s: float, given_up: Callable[[], bool]
    ) -> list[tuple[ShownFrame, bytes]]:
        """Images that the viewer does not have yet, as soon as there is one.

        Args:
            have: for each camera in view the serial of the image that the viewer has, 0 for none.
            size: of `WIDTHS`.
            wait_s: how long to wait for one.
            given_up: called while waiting; True ends it.

        Returns:
            At most one per camera, with its JPEG; empty where none came in time.

        """
        until = time.monotonic() + wait_s
        while True:
            newest = self._state.newest()
            fresh = [name for name, serial in have.items() if name in newest and newest[name].serial != serial]
            if fresh:
                # Together: the second camera must not age while the first one is encoded.
                return await asyncio.gather(*(self._newest(name, size) for name in fresh))
            if time.monotonic() >= until or given_up():
                return []
            await asyncio.sleep(_POLL_S)

    async def _newest(self, camera: str, size: str) -> tuple[ShownFrame, bytes]:
        key = (camera, size)
        async with self._making.setdefault(key, asyncio.Lock()):
            shot = self._state.newest()[camera]  # it may have changed while others had the lock
            serial, jpeg = self._ready.get(key, (0, b""))
            if serial != shot.serial:
                loop = asyncio.get_running_loop()
                jpeg = await loop.run_in_executor(self.workers, to_jpeg, shot.frame.image, _QUALITY, WIDTHS[size])
                self.encoded += 1
                self._ready[key] = (shot.serial, jpeg)
            return shot, jpeg


def pack(head: Mapping[str, Any], images: list[tuple[ShownFrame, bytes]]) -> bytes:
    """One body for several images: length of the JSON (uint32, big end first), the JSON, the JPEGs.

    The JSON is `head` with `images`: a list in the order of the JPEGs, each with its `bytes`.
    """
    listed = [
        {
            "camera": shot.frame.camera,
            "serial": shot.serial,
            "captured_ns": shot.frame.captured_ns,
            "size_wh": [shot.frame.image.shape[1], shot.frame.image.shape[0]],
            "detections": shot.record["detections"],
            "bytes": len(jpeg),
        }
        for shot, jpeg in images
    ]
    text = json.dumps({**head, "images": listed}, separators=(",", ":")).encode()
    return b"".join((struct.pack(">I", len(text)), text, *(jpeg for _, jpeg in images)))


def to_jpeg(image_bgr: NDArray[np.uint8], quality: int, width: int | None = None) -> bytes:
    """An image, uint8 (H, W, 3) BGR, as JPEG; shrunk to `width` pixels where it is wider."""
    height_now, width_now = image_bgr.shape[:2]
    shown: NDArray[Any] = image_bgr
    if width is not None and width_now > width:
        size_wh = (width, max(1, round(height_now * width / width_now)))
        shown = cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(".jpg", shown, (cv2.IMWRITE_JPEG_QUALITY, quality))
    if not done:
        raise ValueError(f"an image of shape {image_bgr.shape} cannot be made a JPEG")
    return jpeg.tobytes()


def _lower_priority() -> None:
    """Detection comes first: where threads have priorities, this one gets a low one."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
