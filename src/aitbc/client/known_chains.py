"""Chains this release knows by their genesis hash; for others `verify` says "self-declared"."""

DEVNET = "0b890f3ca5763a1e9d52bbb470eb5cc6329dea663f500e60da91424df008d8d2"
DEVNET_0_1 = "9f1715e0da56ea66471be4b47a286549d52563da5dd1bf1b96e89004270b7b26"

_DEVNET = "the built-in devnet; its keys are public, so anybody could have made this receipt"

KNOWN_CHAINS: dict[str, str] = {DEVNET: _DEVNET, DEVNET_0_1: _DEVNET + " (of release 0.1.0)"}
"""genesis hash (hexadecimal) → what it is, for people."""
