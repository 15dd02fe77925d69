"""`swath evaluate` from a checkout: python scripts/evaluate.py runs/crop_weed photos/annotations.json."""

import sys

from detection.cli.app import main

if __name__ == "__main__":
    main(["evaluate", *sys.argv[1:]])
