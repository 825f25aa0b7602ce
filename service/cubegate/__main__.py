"""Runs the command line: `python -m cubegate`."""

from cubegate.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
