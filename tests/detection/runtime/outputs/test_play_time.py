from __future__ import annotations

import pytest

from detection.runtime.outputs.play_time import PlayTime
from tests.detection.runtime.outputs.shots import frame_of


def test_live_images_are_where_they_were_grabbed() -> None:
    time = PlayTime(live=True, fps=25)
    grabbed_ns = [5_000_000_000, 5_040_000_000, 5_500_000_000]
    frames = [frame_of(i, captured_ns=ns, stream_s=0.0) for i, ns in enumerate(grabbed_ns)]
    assert [time.seconds(frame) for frame in frames] == pytest.approx([0.0, 0.04, 0.5])


def test_recordings_by_their_stamps_or_by_number() -> None:
    time = PlayTime(live=False, fps=10)
    assert [time.seconds(frame_of(i, stream_s=s)) for i, s in enumerate([3.0, 3.2, 3.3])] == pytest.approx(
        [0, 0.2, 0.3]
    )
    time = PlayTime(live=False, fps=10)
    assert [time.seconds(frame_of(i)) for i in (4, 5, 9)] == pytest.approx([0, 0.1, 0.5])
    time = PlayTime(live=False, fps=None)
    assert [time.seconds(frame_of(i)) for i in (0, 1)] == pytest.approx([0, 0.04])


def test_a_stream_that_begins_anew_goes_on() -> None:
    time = PlayTime(live=False, fps=10)
    stamps = [0.0, 0.1, 0.1, 0.0, 0.2]
    seconds = [time.seconds(frame_of(i, stream_s=s)) for i, s in enumerate(stamps)]
    assert seconds == pytest.approx([0, 0.1, 0.2, 0.3, 0.5])
