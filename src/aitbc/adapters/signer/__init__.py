"""A validator's key in another process: what the two say to each other, and the node's side of it."""
