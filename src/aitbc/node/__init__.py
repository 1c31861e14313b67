"""The node program: ledger, agreement and RPC in one process."""
