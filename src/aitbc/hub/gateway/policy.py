"""The content-policy hook: functions of the operator's that see every request of an account before it costs anything.

A policy is `(kind, model, request) -> reason or None`, named in the configuration as `module:function`. It runs on the
event loop, so it must be quick: words, not models.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from aitbc.core.jobs.reasons import JobReason, Refused

Policy = Callable[[str, str, Mapping[str, Any]], str | None]


def load_policies(names: Sequence[str]) -> list[Policy]:
    """Raises ImportError or AttributeError for one that is not there: a hub does not start without its policy."""
    policies: list[Policy] = []
    for name in names:
        module, _, attribute = name.partition(":")
        policies.append(getattr(import_module(module), attribute))
    return policies


def check_policies(policies: Sequence[Policy], kind: str, model: str, request: Mapping[str, Any]) -> None:
    for policy in policies:
        reason = policy(kind, model, request)
        if reason is not None:
            raise Refused(JobReason.CONTENT_POLICY, reason[:300])
