"""AITBC: a token is minted only for compute that was delivered and verified."""

__version__ = "0.2.0"
