"""`swath export` from a checkout: python scripts/export.py runs/crop_weed --out crop_weed.onnx."""

import sys

from detection.cli.app import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
