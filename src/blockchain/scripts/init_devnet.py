"""`python -m blockchain.scripts.init_devnet` is `aitbc config init-devnet`: genesis, keys and devnet.yaml, here."""

import sys

from aitbc.cli import root
from aitbc.cli.errors import run

if __name__ == "__main__":
    sys.exit(run(root, ["config", "init-devnet", *sys.argv[1:]]))
