"""Where detections and events go. Each kind of output is described by the `KIND` of its file.

A new one is one file and one line here; the machine's YAML, the flags of `swath stream`, `swath machine check` and
`swath machine example` are derived from it. Nothing here imports numpy or OpenCV before an output is opened.
"""

from detection.runtime.outputs import (
    black_box,
    csv,
    dashboard,
    jsonl,
    mcap,
    mqtt,
    prometheus,
    ros2,
    video,
    webhook,
)
from detection.runtime.outputs.kind import OutputKind

KINDS: tuple[OutputKind, ...] = (
    jsonl.KIND,
    csv.KIND,
    jsonl.EVENTS_KIND,
    video.KIND,
    mcap.KIND,
    black_box.KIND,
    dashboard.KIND,
    mqtt.KIND,
    webhook.KIND,
    prometheus.KIND,
    ros2.KIND,
)
"""In the order in which they are listed. They are opened from the last to the first: files last, because some
replace what stood there."""
