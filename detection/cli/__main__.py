"""`python -m detection.cli`: the command `swath` where its script is not on the path."""

from detection.cli.app import main

if __name__ == "__main__":
    main()
