"""Simplex BFT (Chan and Pass, IACR eprint 2023/463)."""
