"""Hashes with domain tags, signature schemes, addresses and Merkle trees."""
