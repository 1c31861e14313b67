"""Canonical bytes for signing and hashing, msgpack for wire and disk, JSON at the edge."""
