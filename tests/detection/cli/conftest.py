"""The commands of the robot's half are tried with the same tiny model as the runtime itself."""

from tests.detection.runtime.cameras.conftest import rtsp_camera
from tests.detection.runtime.conftest import (
    camera_server,
    detector,
    make_image,
    make_video,
    model_path,
    tiny,
    video_path,
)

__all__ = ["camera_server", "detector", "make_image", "make_video", "model_path", "rtsp_camera", "tiny", "video_path"]
