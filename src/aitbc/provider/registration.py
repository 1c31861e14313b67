"""A provider says on the chain what it serves and for how much: free the first time when a hub vouches for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aitbc.client.errors import ApiError, ClientError
from aitbc.client.transactions import build_transaction, register_payload
from aitbc.core.types.records import ModelOffer
from aitbc.ports import ModelCard
from aitbc.provider.chain import Chain, fee_within
from aitbc.provider.config import ProviderConfig

log = logging.getLogger("aitbc.provider")

FINAL_WAIT_S = 30
RETRY_LEAST_S = 0.1
RETRY_MOST_S = 30

Announce = Callable[[str], None]
"""Told the id of the REGISTER as soon as the node has taken it."""


class Vouched(NamedTuple):
    """A hub's word for a newcomer, and the key under which it is good."""

    hub: str
    sig: str
    pubkey: str


AskCountersignature = Callable[[], Awaitable[Vouched]]


class RegistrationFailed(Exception):
    """The chain refused; the message says why."""


def offers_of(config: ProviderConfig, cards: dict[str, ModelCard]) -> list[ModelOffer]:
    """What is registered, in one order."""
    return [
        ModelOffer(
            model=card.model,
            kind=card.kind,
            price_per_kilounit=config.price_per_kilounit,
            digest=card.digest,
        )
        for _, card in sorted(cards.items())
    ]


async def ensure_registered(
    chain: Chain,
    config: ProviderConfig,
    cards: dict[str, ModelCard],
    *,
    genesis_hash: bytes,
    ask: AskCountersignature,
    announce: Announce,
) -> None:
    """Register, or register anew when something has changed, with retries until it is final."""
    payload = register_payload(
        role="provider", models=offers_of(config, cards), payout=config.payout, validator=config.validator
    )
    pause_s = RETRY_LEAST_S
    while True:
        try:
            if await _is_registered(chain, config, payload):
                return
            tx_id = await _send_registration(chain, config, payload, genesis_hash=genesis_hash, ask=ask)
            announce(tx_id)
            await _wait_final(chain, tx_id)
            log.info("registered %s", ", ".join([offer["model"] for offer in payload["models"]]))
        except (ClientError, RegistrationFailed, TimeoutError) as error:
            log.warning("registration: %s", error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MOST_S)


async def _is_registered(chain: Chain, config: ProviderConfig, payload: dict[str, Any]) -> bool:
    address = config.signer.address
    own = await chain.registration("provider", address)
    if own is None:
        return False
    wanted = {offer["model"]: offer for offer in payload["models"]}
    return (
        {offer["model"]: offer for offer in own["models"]} == wanted
        and own.get("payout", address) == (config.payout or address)
        and own.get("validator", "") == config.validator
    )


async def _send_registration(
    chain: Chain,
    config: ProviderConfig,
    payload: dict[str, Any],
    *,
    genesis_hash: bytes,
    ask: AskCountersignature,
) -> str:
    account = await chain.account(config.signer.address)
    fee = await fee_within(chain, "REGISTER", payload, max_fee=config.max_fee)
    witness: dict[str, Any] | None = None
    if int(account["balance"]) < fee:
        signed = await ask()
        fee, witness = 0, {"hub": signed.hub, "sig": signed.sig}
        if not (await chain.account(signed.hub))["pubkey"]:
            witness["pubkey"] = signed.pubkey  # a hub that has sent nothing yet, on a chain without premint
    tx = build_transaction(
        "REGISTER",
        payload,
        signer=config.signer,
        nonce=int(account["nextNonce"]),
        fee=fee,
        genesis_hash=genesis_hash,
        witness=witness,
    )
    try:
        return await chain.send(tx)
    except ApiError as error:
        raise RegistrationFailed(f"{error.code}: {error.message}") from None


async def _wait_final(chain: Chain, tx_id: str) -> None:
    answer = await chain.transaction(tx_id, wait="final", timeout=FINAL_WAIT_S)
    outcome = answer.get("receipt") or {}
    if answer["status"] != "final" or outcome.get("status") == "failed":
        raise RegistrationFailed(
            f"{answer['status']} {outcome.get('reason', '')} {outcome.get('message', '')}"
        )
