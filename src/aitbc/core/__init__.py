"""The pure middle: deterministic, synchronous, no I/O, no clock, no randomness, integers only."""
