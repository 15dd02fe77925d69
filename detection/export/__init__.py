"""From a trained detector to one checked .onnx."""
