"""`swath train` from a checkout: python scripts/train.py configs/crop_weed.yaml --out runs/crop_weed."""

import sys

from detection.cli.app import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
