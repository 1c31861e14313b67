"""Seed 000 §10's script: what `aitbc keys new` does, under the seed's name: python scripts/keygen.py NAME."""

import sys

from aitbc.cli import root
from aitbc.cli.errors import run

if __name__ == "__main__":
    sys.exit(run(root, ["keys", "new", *sys.argv[1:]]))
