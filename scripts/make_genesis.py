"""Seed 000 §13's script: what `aitbc genesis make` does, under the seed's name."""

import sys

from aitbc.cli import root
from aitbc.cli.errors import run

if __name__ == "__main__":
    sys.exit(run(root, ["genesis", "make", *sys.argv[1:]]))
