"""What a workshop network has fixed: difficulty, reward, size of a block. docs/spec/workshop.md "Rules" """

import msgspec

DIFFICULTY = 7
"""Leading zero hexadecimal digits: 28 bits, 268 million tries on average."""
BLOCK_REWARD = 10_000
MAX_TRANSACTIONS = 10


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Two nodes with other rules are on two networks, though nothing on the wire says so."""

    difficulty: int = DIFFICULTY
    reward: int = BLOCK_REWARD
    max_transactions: int = MAX_TRANSACTIONS
    follow_overfull: bool = False
    """Take blocks above `max_transactions`, as the reference implementation does; this node never builds one."""
