"""The hub's end of the provider link: who may come in, and which message goes where. docs/spec/provider_link.md"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from aitbc.client.errors import ApiError, ClientError
from aitbc.core.codec.digests import countersignature_digest
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import verify
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import MAX_OUTPUT_BYTES
from aitbc.core.jobs.units import PROFILES, kind_of
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.hub.attempts import attested_message
from aitbc.hub.hub import Hub
from aitbc.hub.providers import ProviderSession

T = TypeVar("T")

log = logging.getLogger("aitbc.hub")

MAX_ERRORS = 8
"""Refused messages after which a link is closed."""
MISSED_HEARTBEATS = 3
MAX_RESENT = 256
"""Attestations told again after a reconnect; the rest follow when these are paid."""
CLOSE_POLICY = 1008
CLOSE_NORMAL = 1000
MAX_FRAME_BYTES = MAX_OUTPUT_BYTES + 1024
"""For the server: a larger frame ends the connection before it is in memory."""

CHAIN_PAUSE_LEAST_S = 0.05
CHAIN_PAUSE_MOST_S = 2
LAST_WORDS_S = 2
"""A provider that does not read is left after this time."""

_LAST_WORDS = (link.Declined, link.AttemptFailed, link.Result)


async def serve_link(hub: Hub, websocket: WebSocket) -> None:
    """One connection from accept to close."""
    await websocket.accept()
    try:
        session = await _handshake(hub, websocket)
    except Refused as error:
        await _say_and_close(websocket, error)
        return
    except (WebSocketDisconnect, TimeoutError):
        await _close(websocket, CLOSE_POLICY)
        return
    _replace_older(hub, session)
    writer = asyncio.create_task(_write(websocket, session))
    try:
        await _after_welcome(hub, session)
        await _Reader(hub, websocket, session).run()
    finally:
        hub.directory.leave(session)
        session.lose_all(f"the link to {session.address} broke")
        session.shut()
        await asyncio.wait([writer], timeout=LAST_WORDS_S)
        writer.cancel()
        log.info("provider %s left", session.address)


# coming in


async def _handshake(hub: Hub, websocket: WebSocket) -> ProviderSession:
    host = websocket.client.host if websocket.client else ""
    with hub.handshakes.take(host):
        nonce = secrets.token_hex(32)
        challenge = link.Challenge(
            version=link.VERSION,
            nonce=nonce,
            hub=hub.signer.address,
            chain_id=hub.chain_id,
            genesis_hash=hub.genesis_hash.hex(),
        )
        await websocket.send_text(link.encode_message(challenge))
        async with asyncio.timeout(hub.config.hello_s):
            frame = await _receive(websocket)
        session = _authenticate(hub, _hello_in(frame), nonce)
    if not hub.directory.make_room(session):
        raise Refused(JobReason.TOO_MANY_PROVIDERS, "this hub has no place left; try again later")
    return session


def _hello_in(frame: dict[str, Any]) -> link.Hello:
    text = frame.get("text")
    if text is None:
        raise Refused(JobReason.NOT_AUTHENTICATED, "the first frame must be a hello in text")
    try:
        message = link.decode_from_provider(text)
    except Rejected as error:
        raise Refused(JobReason.BAD_FRAME, str(error)[:400]) from None
    if not isinstance(message, link.Hello):
        raise Refused(JobReason.NOT_AUTHENTICATED, "the first message must be a hello")
    return message


def _authenticate(hub: Hub, hello: link.Hello, nonce: str) -> ProviderSession:
    """The signature covers this hub, this chain and this connection's challenge."""
    if hello.version != link.VERSION:
        raise Refused(
            JobReason.WRONG_NETWORK, f"link version {hello.version}; this hub speaks {link.VERSION}"
        )
    try:
        auth_key = key_from_text(hello.pubkey)
        signature = bytes.fromhex(hello.sig)
    except (Rejected, ValueError) as error:
        raise Refused(
            JobReason.NOT_AUTHENTICATED, f"key or signature cannot be read: {error}"[:400]
        ) from None
    if address_of(auth_key) != hello.address:
        raise Refused(JobReason.NOT_AUTHENTICATED, "the key is not that of the address")
    digest = link.hello_digest(
        genesis_hash=hub.genesis_hash,
        hub=hub.signer.address,
        nonce=nonce,
        hello_nonce=hello.nonce,
        provider=hello.address,
    )
    if not verify(auth_key, digest, signature):
        raise Refused(
            JobReason.NOT_AUTHENTICATED,
            "the signature is not good for this hub, this chain and this connection",
        )
    _check_models(hello)
    session = ProviderSession(hello, auth_key=auth_key)
    welcome = link.welcome_digest(
        genesis_hash=hub.genesis_hash,
        hub=hub.signer.address,
        hello_nonce=hello.nonce,
        provider=hello.address,
    )
    session.post(
        link.Welcome(
            pubkey=key_to_text(hub.signer.auth_key),
            sig=hub.signer.sign(welcome).hex(),
            heartbeat_ms=hub.config.heartbeat_ms,
        )
    )
    return session


def _check_models(hello: link.Hello) -> None:
    names = [model.model for model in hello.models]
    if not names or len(set(names)) != len(names):
        raise Refused(JobReason.UNKNOWN_MODEL, "a provider offers at least one model, and each once")
    for model in hello.models:
        profile = PROFILES.get(model.model)
        if profile is None or kind_of(profile) != model.kind:
            raise Refused(
                JobReason.UNKNOWN_MODEL,
                f"this hub cannot bill {model.kind} by {model.model}; known: {', '.join(PROFILES)}",
            )


def _replace_older(hub: Hub, session: ProviderSession) -> None:
    older = hub.directory.join(session)
    if older is not None:
        older.post(link.LinkError(reason=JobReason.REPLACED, message="the same provider has connected again"))
        older.lose_all(f"{session.address} has connected again")
        older.shut()
    log.info("provider %s came with %s", session.address, ", ".join(session.models))


async def _after_welcome(hub: Hub, session: ProviderSession) -> None:
    """Tell what is still owed, then look whether tasks may be given."""
    await hub.know(session)
    entries = await hub.db(hub.store.open_receipts, provider=session.address, limit=MAX_RESENT)
    for entry in entries:
        session.post(attested_message(entry))
    hub.in_background(_look_up_registration(hub, session))


async def _look_up_registration(hub: Hub, session: ProviderSession) -> None:
    """A provider works for what it has registered on the chain, model by model."""
    own = await _of_chain(session, lambda: hub.chain.registration("provider", session.address))
    session.eligible = _as_offered(session, own["models"] if own else [])
    session.post(link.Eligible(models=sorted(session.eligible)))
    if hub.directory.get(session.address) is session:
        hub.provider_changed(session)
        hub.feeder.wake()


async def _note_announced(hub: Hub, session: ProviderSession, tx_id: str) -> None:
    """A registration on its way makes quotes possible; the lock that follows is final after it."""
    answer = await _of_chain(session, lambda: hub.chain.transaction(tx_id))
    tx = answer.get("tx") if answer and answer["status"] in ("pending", "final") else None
    if not tx or tx["type"] != "REGISTER" or tx["sender"] != session.address:
        return
    account = await _of_chain(session, lambda: hub.chain.account(session.address))
    if account and tx["nonce"] <= int(account["nonce"]) + 1:  # else it may never be in a block
        session.announce(_as_offered(session, tx["payload"]["models"]))


def _as_offered(session: ProviderSession, models: list[dict[str, Any]]) -> frozenset[str]:
    """The models that are registered at the very price and with the very weights that the provider said hello with."""
    registered = {offer["model"]: (offer["price_per_kilounit"], offer.get("digest", "")) for offer in models}
    return frozenset(
        [
            name
            for name, model in session.models.items()
            if registered.get(name) == (model.price_per_kilounit, model.digest)
        ]
    )


async def _of_chain(session: ProviderSession, ask: Callable[[], Awaitable[T]]) -> T | None:
    """The node's answer, or None for a refusal; a node that is out of reach is asked until the link ends."""
    pause_s = CHAIN_PAUSE_LEAST_S
    while session.open:
        try:
            return await ask()
        except ApiError as error:
            log.warning("provider %s: %s", session.address, error.message)
            return None
        except ClientError:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, CHAIN_PAUSE_MOST_S)
    return None


# the connection


class _Reader:
    """Reads one authenticated link until it ends."""

    def __init__(self, hub: Hub, websocket: WebSocket, session: ProviderSession) -> None:
        self._hub = hub
        self._websocket = websocket
        self._session = session
        self._errors = 0
        self._announced: link.Result | None = None
        """A result whose bytes are the next frame."""

    async def run(self) -> None:
        patience_s = MISSED_HEARTBEATS * self._hub.config.heartbeat_ms / 1000
        while self._session.open:
            try:
                async with asyncio.timeout(
                    patience_s
                ):  # wait_for of 3.11 forgets a cancel that comes with a frame
                    frame = await _receive(self._websocket)
                self._handle(frame)
            except (WebSocketDisconnect, TimeoutError):
                return
            except Rejected as error:
                large = error.reason == Reason.TOO_LARGE
                self._refuse(JobReason.FRAME_TOO_LARGE if large else JobReason.BAD_FRAME, str(error))
            except Refused as error:
                self._refuse(error.reason, error.message)

    def _refuse(self, reason: JobReason, message: str) -> None:
        """Name what was wrong; too much of it ends the link."""
        self._errors += 1
        log.warning("provider %s: %s: %s", self._session.address, reason, message)
        self._session.post(link.LinkError(reason=reason, message=message[:400]))
        if self._errors >= MAX_ERRORS or reason == JobReason.TOO_MANY_ERRORS:
            self._session.post(
                link.LinkError(reason=JobReason.TOO_MANY_ERRORS, message="the hub closes this link")
            )
            self._session.shut()

    def _handle(self, frame: dict[str, Any]) -> None:
        announced, self._announced = self._announced, None
        data = frame.get("bytes")
        if data is not None:
            self._take_data(announced, data)
            return
        if announced is not None:
            self._fail(
                announced, JobReason.UNEXPECTED_MESSAGE, "the bytes of a result must follow it at once"
            )
        self._take_message(link.decode_from_provider(frame["text"]))

    def _take_data(self, announced: link.Result | None, data: bytes) -> None:
        if announced is None:
            raise Refused(JobReason.UNEXPECTED_MESSAGE, "a binary frame must be announced by a result")
        if len(data) != announced.size:
            self._fail(
                announced, JobReason.BAD_FRAME, f"{len(data)} bytes where {announced.size} were announced"
            )
            return
        self._pass_on(announced.task_id, announced, data)

    def _fail(self, announced: link.Result, reason: JobReason, message: str) -> None:
        """A result that did not arrive ends its attempt."""
        failed = link.AttemptFailed(task_id=announced.task_id, reason=reason, message=message)
        self._pass_on(announced.task_id, failed)
        raise Refused(reason, message)

    def _take_message(self, message: link.FromProvider) -> None:
        match message:
            case link.Heartbeat():
                pass
            case link.Registered():
                self._hub.in_background(_look_up_registration(self._hub, self._session))
            case link.Registering(tx=tx):
                self._hub.in_background(_note_announced(self._hub, self._session, tx))
            case link.AskCountersignature():
                self._countersign()
            case link.Hello():
                raise Refused(JobReason.UNEXPECTED_MESSAGE, "hello has been said")
            case link.Result(size=size) if size > MAX_OUTPUT_BYTES:
                self._fail(message, JobReason.OUTPUT_TOO_LARGE, f"{size} bytes; at most {MAX_OUTPUT_BYTES}")
            case link.Result():
                self._announced = message
            case _:
                self._pass_on(message.task_id, message)

    def _pass_on(self, task_id: str, message: Any, data: bytes = b"") -> None:
        if not self._session.deliver(task_id, message, data):
            raise Refused(JobReason.WRONG_TASK, f"you have no task {task_id}")
        if isinstance(message, _LAST_WORDS):
            self._session.free_slot(task_id)
            self._hub.provider_changed(self._session)

    def _countersign(self) -> None:
        """Vouch once per link for a provider that has no money to register with."""
        hub, session = self._hub, self._session
        if session.countersigned or not hub.countersignatures.allow("all"):
            raise Refused(
                JobReason.RATE_LIMITED, "no more countersignatures now; register with a fee or wait"
            )
        session.countersigned = True
        digest = countersignature_digest(session.address, hub.signer.address, hub.genesis_hash)
        session.post(link.Countersignature(hub=hub.signer.address, sig=hub.signer.sign(digest).hex()))


async def _write(websocket: WebSocket, session: ProviderSession) -> None:
    """Send what is queued; None ends the link."""
    try:
        while (text := await session.outbox.get()) is not None:
            await websocket.send_text(text)
        await _close(websocket, CLOSE_NORMAL)
    except (WebSocketDisconnect, RuntimeError, OSError) as error:
        log.debug("provider %s: %s", session.address, error)
        session.open = False


async def _receive(websocket: WebSocket) -> dict[str, Any]:
    frame = await websocket.receive()
    if frame["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(frame.get("code", 1005))
    return dict(frame)


async def _say_and_close(websocket: WebSocket, error: Refused) -> None:
    message = link.LinkError(reason=error.reason, message=error.message[:400])
    try:
        await websocket.send_text(link.encode_message(message))
    except (WebSocketDisconnect, RuntimeError):
        return
    await _close(websocket, CLOSE_POLICY)


async def _close(websocket: WebSocket, code: int) -> None:
    if websocket.application_state == WebSocketState.CONNECTED:
        try:
            await websocket.close(code)
        except (WebSocketDisconnect, RuntimeError):
            return
