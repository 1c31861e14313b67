"""Blocks and state on disk or in memory; one behavioural suite for all (tests/contracts/test_store.py)."""
