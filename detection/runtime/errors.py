"""Errors for the user; each message is one line."""


class SwathError(Exception):
    """An error that the user can fix; its message is one line: what, where and what to do."""


class ModelFileError(SwathError):
    """An .onnx that is missing, damaged, not written by Swath, or written by a newer one."""


class ModelOutputError(SwathError):
    """Outputs of a model that are no detections, such as scores that are not a number."""


class DeviceError(SwathError):
    """An execution provider (GPU, NPU) that was requested and is not available."""


class SourceError(SwathError):
    """A camera, video or image folder that cannot be opened or read."""


class OutputError(SwathError):
    """A file that cannot be written."""
