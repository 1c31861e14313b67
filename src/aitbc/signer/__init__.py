"""The signer: a validator's key and its guard in a process of their own, apart from the node."""
