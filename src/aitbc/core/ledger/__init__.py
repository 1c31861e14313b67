"""The ledger: state, transactions, fees, minting, genesis and what must always be true. Pure."""
