"""The provider's end of the link: connects out, proves who it is, reconnects for ever. docs/spec/provider_link.md"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException

from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import verify
from aitbc.core.jobs import link
from aitbc.core.types.reasons import Rejected
from aitbc.ports import ModelCard
from aitbc.provider.config import ProviderConfig

log = logging.getLogger("aitbc.provider")

RECONNECT_LEAST_S = 0.05
QUICK_TRIES = 40
"""A hub that is started or restarted beside us is back within two seconds."""
OPEN_S = 5
MAX_OUTBOX = 4096
"""Messages that wait for a slow hub; a full chat answer has 512."""

Item = tuple[link.FromProvider, bytes | None]
OnMessage = Callable[["Session", link.FromHub], None]


class LinkRefused(Exception):
    """The other side is not the hub that we want, or does not want us; the message says why."""


class Session:
    """One authenticated connection."""

    def __init__(self, connection: ClientConnection, *, hub: str, hub_key: bytes, heartbeat_s: float) -> None:
        self._connection = connection
        self.hub = hub
        self.hub_key = hub_key
        self.heartbeat_s = heartbeat_s
        self._outbox: asyncio.Queue[Item | None] = asyncio.Queue(MAX_OUTBOX)

    def send(self, message: link.FromProvider) -> None:
        """Queue a message; a hub that does not read loses us."""
        self._put((message, None))

    async def send_result(self, result: link.Result, data: bytes) -> None:
        """A result and, directly behind it, its bytes."""
        self._put((result, data))

    def _put(self, item: Item | None) -> None:
        try:
            self._outbox.put_nowait(item)
        except asyncio.QueueFull:
            log.warning("the hub does not read; the link is closed")
            self._connection.transport.abort()

    def close(self) -> None:
        """No more words after what is queued: the last of them may be a result."""
        self._put(None)

    async def write(self) -> None:
        """Send what is queued, in order."""
        while True:
            item = await self._outbox.get()
            if item is None:
                self._connection.transport.close()  # once what was written has left
                return
            message, data = item
            await self._connection.send(link.encode_message(message))
            if data is not None:
                await self._connection.send(data)


class HubLink:
    """Keeps one session to one hub alive."""

    def __init__(
        self,
        config: ProviderConfig,
        *,
        genesis_hash: bytes,
        cards: Callable[[], dict[str, ModelCard]],
        running: Callable[[], list[str]],
        vram_mb: int,
        on_message: OnMessage,
        on_linked: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._config = config
        self._genesis_hash = genesis_hash
        self._cards = cards
        self._running = running
        self._vram_mb = vram_mb
        self._on_message = on_message
        self._on_linked = on_linked
        self._on_lost = on_lost
        self.session: Session | None = None
        self.last_error = ""
        self.wanted = asyncio.Event()
        """While it is not set, no link is opened."""
        self.wanted.set()

    async def run(self) -> None:
        """Connect, serve, connect again; after some quick tries the pause doubles, with jitter."""
        tries = 0
        while True:
            await self.wanted.wait()
            try:
                tries += 1
                if await self._connect_once():
                    tries = 0
            except (OSError, TimeoutError, InvalidHandshake, WebSocketException, LinkRefused) as error:
                self._note(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._pause_s(tries) * random.uniform(0.5, 1))  # noqa: S311  (jitter, not a secret)

    def leave(self) -> None:
        """Say what is left to say, close the link and open none until `wanted` is set again: others get our work."""
        self.wanted.clear()
        if self.session is not None:
            self.session.close()

    def _pause_s(self, tries: int) -> float:
        doublings = max(0, tries - QUICK_TRIES)
        return float(min(RECONNECT_LEAST_S * 2 ** min(doublings, 20), self._config.reconnect_most_s))

    def _note(self, error: str) -> None:
        """Say once what is wrong, not at every attempt."""
        if error != self.last_error:
            log.warning("hub %s: %s", self._config.hub_url, error[:300])
        self.last_error = error

    async def _connect_once(self) -> bool:
        """Serve one connection to its end; True when it had been authenticated."""
        async with connect(
            link_url(self._config.hub_url),
            max_size=link.MAX_TEXT_FRAME * 4,
            compression=None,
            open_timeout=OPEN_S,
            close_timeout=1,
            proxy=None,
        ) as connection:
            async with asyncio.timeout(OPEN_S):
                session = await self._handshake(connection)
            self.session, self.last_error = session, ""
            log.info("linked to hub %s", session.hub)
            helpers = [asyncio.create_task(session.write()), asyncio.create_task(self._beat(session))]
            try:
                self._on_linked()
                await self._read(connection, session)
            finally:
                self.session = None
                self._on_lost()
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
        return True

    async def _handshake(self, connection: ClientConnection) -> Session:
        challenge = await self._receive(connection)
        if not isinstance(challenge, link.Challenge):
            raise LinkRefused(_words_of(challenge))
        self._check_challenge(challenge)
        hello_nonce = secrets.token_hex(32)
        await connection.send(link.encode_message(self._hello(challenge, hello_nonce)))
        welcome = await self._receive(connection)
        if not isinstance(welcome, link.Welcome):
            raise LinkRefused(_words_of(welcome))
        hub_key = self._check_welcome(welcome, challenge.hub, hello_nonce)
        return Session(
            connection, hub=challenge.hub, hub_key=hub_key, heartbeat_s=welcome.heartbeat_ms / 1000
        )

    def _check_challenge(self, challenge: link.Challenge) -> None:
        if challenge.version != link.VERSION:
            raise LinkRefused(f"the hub speaks link version {challenge.version}, we {link.VERSION}")
        if challenge.genesis_hash != self._genesis_hash.hex():
            raise LinkRefused(f"the hub is on another chain ({challenge.chain_id}, {challenge.genesis_hash})")
        if self._config.hub_address and challenge.hub != self._config.hub_address:
            raise LinkRefused(f"the hub is {challenge.hub}, not {self._config.hub_address}")

    def _hello(self, challenge: link.Challenge, hello_nonce: str) -> link.Hello:
        signer = self._config.signer
        digest = link.hello_digest(
            genesis_hash=self._genesis_hash,
            hub=challenge.hub,
            nonce=challenge.nonce,
            hello_nonce=hello_nonce,
            provider=signer.address,
        )
        return link.Hello(
            version=link.VERSION,
            address=signer.address,
            pubkey=key_to_text(signer.auth_key),
            nonce=hello_nonce,
            sig=signer.sign(digest).hex(),
            models=[
                link.LinkModel(
                    model=card.model,
                    kind=card.kind,
                    digest=card.digest,
                    price_per_kilounit=self._config.price_per_kilounit,
                )
                for card in self._cards().values()
            ],
            slots=self._config.slots,
            device=self._config.device,
            region=self._config.region,
            vram_mb=self._vram_mb,
            policies=list(self._config.policies),
        )

    def _check_welcome(self, welcome: link.Welcome, hub: str, hello_nonce: str) -> bytes:
        """The hub's key, after it has proved that it holds it."""
        digest = link.welcome_digest(
            genesis_hash=self._genesis_hash,
            hub=hub,
            hello_nonce=hello_nonce,
            provider=self._config.signer.address,
        )
        try:
            hub_key = key_from_text(welcome.pubkey)
            good = address_of(hub_key) == hub and verify(hub_key, digest, bytes.fromhex(welcome.sig))
        except (Rejected, ValueError) as error:
            raise LinkRefused(f"the hub's key or signature cannot be read: {error}") from None
        if not good:
            raise LinkRefused(f"the other side does not hold the key of {hub}")
        return hub_key

    async def _receive(self, connection: ClientConnection) -> link.FromHub:
        frame = await connection.recv()
        if not isinstance(frame, str):
            raise LinkRefused("the hub sent bytes where a message was due")
        try:
            return link.decode_from_hub(frame)
        except Rejected as error:
            raise LinkRefused(f"the hub sent what is no message: {error}"[:300]) from None

    async def _read(self, connection: ClientConnection, session: Session) -> None:
        """Every message until the link ends; a hub that breaks the protocol is left."""
        while True:
            self._on_message(session, await self._receive(connection))

    async def _beat(self, session: Session) -> None:
        while True:
            session.send(link.Heartbeat(running=self._running()))
            await asyncio.sleep(session.heartbeat_s)


def link_url(hub_url: str) -> str:
    """`ws://…/v1/providers/link` for a hub's HTTP URL. Raises InvalidURI for what is none."""
    parts = urlsplit(hub_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise InvalidURI(hub_url, "give the hub's URL, such as http://127.0.0.1:8000")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + link.PATH, "", ""))


def _words_of(message: link.FromHub) -> str:
    if isinstance(message, link.LinkError):
        return f"the hub refuses us: {message.reason}: {message.message}"
    return f"the hub sent {type(message).__name__} out of turn"
