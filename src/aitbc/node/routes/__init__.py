"""The RPC, a file per group of routes; a new route is a function here and a line in docs/spec/rpc.md."""

from aitbc.node.routes import (
    admin,
    chain,
    follow,
    lists,
    proofs,
    receipts,
    status,
    stream,
    transactions,
    upstream,
)

ROUTERS = (
    chain.router,
    transactions.router,
    receipts.router,
    proofs.router,
    admin.router,
    status.router,
    follow.router,
    lists.router,
    upstream.router,
    stream.router,
)

HOT = {
    ("POST", "/rpc/sendTx"): transactions.send_tx,
    ("POST", "/rpc/send_tx"): transactions.send_tx,
    ("POST", "/rpc/sendTxs"): transactions.send_txs,
    ("POST", "/rpc/send_txs"): transactions.send_txs,
}
"""Routes that skip the framework: docs/spec/rpc.md has them with the others."""

MAX_FRAMES = {stream.PATH: stream.MAX_FRAME_BYTES}
"""WebSockets that take longer messages than an order."""
