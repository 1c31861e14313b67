"""What a node is to other nodes. A host needs `network.Network`, whose docstring says what it calls and performs, and
an `aitbc.ports.Transport`; kinds of messages are in `kinds`, reasons in `reasons`. docs/spec/p2p.md

From the socket up: `handshake` and `channel` (Noise), `frames`, `messages` (one connection), `peering` with `dialling`,
`book` and `scores` (all connections), `gossip`, `network`.
"""
