"""The public Python library: what an app imports.

    from aitbc.client import NodeClient
    with NodeClient("http://127.0.0.1:8080") as node:
        print(node.head()["height"])

Names are loaded when they are first used, so that `aitbc.client.verify` works without an HTTP library.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "ApiError": "errors",
    "ClientError": "errors",
    "JobFailed": "errors",
    "ResultRejected": "errors",
    "Stopped": "errors",
    "TimedOut": "errors",
    "TransactionFailed": "errors",
    "Unreachable": "errors",
    "Account": "sender",
    "AsyncAccount": "sender",
    "Unsettled": "sender",
    "Follower": "follow",
    "AsyncFollower": "follow",
    "Wish": "outbox",
    "wish_of_transfer": "outbox",
    "NodeClient": "node",
    "AsyncNodeClient": "node",
    "HubClient": "hub",
    "LightClient": "light",
    "AsyncLightClient": "light",
    "WorkLightClient": "work_light",
    "AsyncWorkLightClient": "work_light",
    "trust_work_genesis": "work_light",
    "trust_work_header": "work_light",
    "trust_genesis": "finality",
    "trust_header": "finality",
    "KeySigner": "signing",
    "build_transaction": "transactions",
    "Check": "verify",
    "verify_bundle": "verify",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'aitbc.client' has no attribute {name!r}")
    return getattr(import_module(f"aitbc.client.{home}"), name)
