"""`python -m blockchain.main --config devnet.yaml` is `aitbc node start --config devnet.yaml`."""

import sys

from aitbc.cli import root
from aitbc.cli.errors import run

if __name__ == "__main__":
    sys.exit(run(root, ["node", "start", *sys.argv[1:]]))
