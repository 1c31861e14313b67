"""The chain: waiting transactions, building blocks and checking those of others."""
