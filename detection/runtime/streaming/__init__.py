"""The stream: frames of many cameras through one detector into outputs."""
