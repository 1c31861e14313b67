"""Twenty nodes that only talk: the real network machines under virtual time, and everything that may happen to them."""
