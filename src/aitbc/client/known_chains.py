"""Chains this release knows by their genesis hash; for others `verify` says "self-declared"."""

DEVNET = "9f1715e0da56ea66471be4b47a286549d52563da5dd1bf1b96e89004270b7b26"

KNOWN_CHAINS: dict[str, str] = {
    DEVNET: "the built-in devnet; its keys are public, so anybody could have made this receipt",
}
"""genesis hash (hexadecimal) → what it is, for people."""
