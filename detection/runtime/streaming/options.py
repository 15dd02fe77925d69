"""`StreamOptions`: what can be set of a stream; and the tracker and the events that it takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detection.runtime.detections import Detections, Frame
from detection.runtime.events import Event, Listener
from detection.runtime.streaming.duty import DutyCycle
from detection.runtime.streaming.slices import FrameSlicer

_EVENTS = 1000


class Tracker(Protocol):
    """What a stream needs of a tracker; one per camera. `PlantTracker` is one."""

    @property
    def counted(self) -> dict[str, int]:
        """How many plants of each class were seen so far, each once."""

    @property
    def low_score_thresholds(self) -> NDArray[np.float32]:
        """(classes,): minimum scores of the detections that it uses, reported or not."""

    def update(self, frame: Frame, detections: Detections, low_score: Detections) -> Detections:
        """The detections with `track_ids`; `low_score` are those below the score thresholds in force."""


class EventQueue:
    """Events on their way to the outputs: put in from any thread, taken by the pipeline.

    At most 1000 wait; the oldest are lost where nothing takes them.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_EVENTS)

    def put(self, event: Event) -> None:
        """Add an event; a `Listener`."""
        self._events.append(event)

    def take(self) -> Event | None:
        """The oldest event, removed; None where there is none."""
        try:
            return self._events.popleft()
        except IndexError:
            return None


@dataclass(frozen=True)
class StreamOptions:
    """How `run_stream` works; the defaults suit one camera or one video.

        StreamOptions(slicers={"left": FrameSlicer(tiles_rc=(1, 2))}, max_age_s=0.2)

    Attributes:
        slicers: region and tiles by camera name; the whole frame where a camera has none.
        trackers: by camera name; a camera without one is not tracked.
        max_age_s: live frames older than this are dropped, before the network or after it, and counted; None: none.
        batch_wait_s: with several cameras: give the network several frames at once where a measurement at the start
            shows that it pays, and wait at most this long for the slower ones; None: one at a time.
        workers: so many frames in the network at once, each in its own thread. With a `Detector` of
            one thread for each core this is faster than one frame by all threads, which wait for each
            other at every layer. For recordings only, and without `duty`: a live frame must not
            wait for others, and a machine that may not get hot must not do two things at once.
        duty: pauses for a machine that may not get hot.
        events: what happens beside the frames; goes to the outputs.
        listener: receives an event of kind "model" when the model gives no answer for an image, and when it does
            again; None: `events` does.
        heartbeat: called in each turn of the loop, at least every 50 ms while all is well.

    """

    slicers: Mapping[str, FrameSlicer] = field(default_factory=dict)
    trackers: Mapping[str, Tracker] = field(default_factory=dict)
    max_age_s: float | None = None
    batch_wait_s: float | None = None
    workers: int = 1
    duty: DutyCycle | None = None
    events: EventQueue = field(default_factory=EventQueue)
    listener: Listener | None = None
    heartbeat: Callable[[], None] | None = None
