"""Detect on cameras, videos or image folders: `swath stream` from a checkout.

python scripts/stream.py model.onnx field.mp4 --jsonl detections.jsonl --video annotated.mp4
"""

import sys

from detection.cli.app import main

if __name__ == "__main__":
    main(["stream", *sys.argv[1:]])
