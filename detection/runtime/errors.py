"""What goes wrong, as one clear line each."""


class SwathError(Exception):
    """Something the user can mend; its message is one line: what, where and what to do."""


class ModelFileError(SwathError):
    """An .onnx that is missing, damaged, not written by Swath, or written by a newer one."""


class DeviceError(SwathError):
    """An execution provider (GPU, NPU) that was asked for and is not live."""


class SourceError(SwathError):
    """A camera, video or image folder that cannot be opened or read."""


class OutputError(SwathError):
    """A file that cannot be written."""
