"""The command line: `aitbc`. One line here per command; its file is loaded when the command is used.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused, 5 unreachable, 6 timed out,
130 stopped. `aitbc COMMAND --help` documents each.
"""

import sys
from typing import NoReturn

from aitbc.cli.errors import run
from aitbc.cli.lazy import Entry, LazyGroup
from aitbc.cli.settings import remember_settings, root_options

TABLE: dict[str, Entry] = {
    "keys": Entry("aitbc.cli.keys:command", "Wallet", "Make, list, import and export keys."),
    "balance": Entry("aitbc.cli.wallet:balance", "Wallet", "Show what accounts hold."),
    "send": Entry("aitbc.cli.wallet:send", "Wallet", "Send coins to an account."),
    "stake": Entry("aitbc.cli.staking:stake", "Wallet", "Put coins into a bond."),
    "unstake": Entry("aitbc.cli.staking:unstake", "Wallet", "Begin to take coins out of a bond."),
    "withdraw": Entry("aitbc.cli.staking:withdraw", "Wallet", "Take back what is free of a bond."),
    "faucet": Entry("aitbc.cli.wallet:faucet", "Wallet", "Get coins from a devnet's faucet."),
    "image": Entry("aitbc.cli.jobs:image", "AI jobs", "Have a picture made, with a signed receipt."),
    "chat": Entry("aitbc.cli.jobs:chat", "AI jobs", "Have a text continued, token by token."),
    "result": Entry("aitbc.cli.jobs:result", "AI jobs", "Fetch a paid result that was interrupted."),
    "refund": Entry("aitbc.cli.jobs:refund", "AI jobs", "Take an escrow back after its deadline."),
    "verify": Entry("aitbc.cli.receipts:verify", "Receipts", "Check a receipt file offline."),
    "receipt": Entry("aitbc.cli.receipts:receipt", "Receipts", "Export receipts to other formats."),
    "claim": Entry("aitbc.cli.receipts:claim", "Receipts", "Claim an attested receipt that nobody claimed."),
    "head": Entry("aitbc.cli.chain:head", "Chain", "Show the newest final block."),
    "block": Entry("aitbc.cli.chain:block", "Chain", "Show a block by height or hash."),
    "tx": Entry(
        "aitbc.cli.transactions:command", "Chain", "Show, make, sign, combine and send transactions."
    ),
    "light": Entry("aitbc.cli.light:command", "Chain", "Check what nodes say, from a genesis document on."),
    "chain": Entry("aitbc.cli.chains:command", "Chain", "Chains and nodes that your keys remember."),
    "params": Entry(
        "aitbc.cli.params:command", "Chain", "Show a chain's parameters, propose and approve changes."
    ),
    "genesis": Entry("aitbc.cli.genesis:command", "Chain", "Make a genesis document."),
    "devnet": Entry("aitbc.cli.devnet:command", "Programs", "Run a whole network on this machine."),
    "node": Entry("aitbc.cli.node:command", "Programs", "Run a node, or see how one does."),
    "signer": Entry("aitbc.cli.signer:command", "Programs", "Keep a validator's key apart from its node."),
    "hub": Entry("aitbc.cli.hub:command", "Programs", "Run a hub."),
    "provider": Entry("aitbc.cli.provider:command", "Programs", "Serve jobs with this machine and earn."),
    "discovery": Entry("aitbc.cli.discovery:command", "Programs", "Help nodes find their first peers."),
    "workshop": Entry("aitbc.cli.workshop:command", "Programs", "Take part in a plain workshop network."),
    "config": Entry(
        "aitbc.cli.configuration:command", "Programs", "See what a program would be told, and by whom."
    ),
    "sim": Entry(
        "aitbc.cli.sim:command", "Programs", "Simulate validators that crash, lose messages and lie."
    ),
    "explain": Entry("aitbc.cli.explain:command", "Help", "Say what an error code means and what to do."),
    "completion": Entry("aitbc.cli.completion:command", "Help", "Print the completion script of a shell."),
}


root = LazyGroup(
    "aitbc",
    TABLE,
    params=root_options(),
    callback=remember_settings,
    help="AITBC: AI compute, paid for with a token that is minted only for verified compute.",
)


def main() -> NoReturn:
    """Entry point of the `aitbc` script."""
    sys.exit(run(root, sys.argv[1:]))
