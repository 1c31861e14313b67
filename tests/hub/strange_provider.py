"""A provider written by hand: speaks the link correctly until a test wants it to lie."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from aitbc.client.signing import KeySigner
from aitbc.core.codec.digests import receipt_core_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs import link
from aitbc.core.jobs.receipts import Computed, Delivery, Offer, build_core, build_details
from hub.market import Market

DIGEST = hash_text(b"strange weights")
MODEL = link.LinkModel(model="tiny-lm", kind="chat", digest=DIGEST, price_per_kilounit=1_000_000)

Fake = Callable[[Offer, Delivery, bytes], tuple[Delivery, bytes]]


class StrangeProvider:
    """`async with StrangeProvider(place) as strange:` is linked, registered and eligible."""

    def __init__(
        self, place: Market, *, name: str = "strange", price: int = MODEL.price_per_kilounit
    ) -> None:
        self.place = place
        self.price = price
        self.signer = KeySigner(name.encode().ljust(32, b"\x09"))
        self.connection: ClientConnection

    async def __aenter__(self) -> Self:
        await self.dial()
        challenge = await self.hear(link.Challenge)
        await self.say(replace_price(self.hello(challenge), self.price))
        await self.hear(link.Welcome)
        if (await self.hear(link.Eligible)).models:
            return self  # its registration is on the chain from an earlier link
        await self.register()
        await self.say(link.Registered())
        assert (await self.hear(link.Eligible)).models == ["tiny-lm"]
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.connection.close()

    async def dial(self) -> None:
        url = self.place.url.replace("http", "ws") + link.PATH
        self.connection = await connect(url, compression=None, proxy=None, close_timeout=1)

    def hello(self, challenge: link.Challenge, *, provider: str = "", **changes: Any) -> link.Hello:
        facts: dict[str, Any] = {
            "genesis_hash": bytes.fromhex(challenge.genesis_hash),
            "hub": challenge.hub,
            "nonce": challenge.nonce,
            "hello_nonce": "11" * 32,
            "provider": provider or self.signer.address,
        }
        hello = link.Hello(
            version=link.VERSION,
            address=provider or self.signer.address,
            pubkey=key_to_text(self.signer.auth_key),
            nonce="11" * 32,
            sig=self.signer.sign(link.hello_digest(**facts)).hex(),
            models=[MODEL],
            slots=1,
            device="strange",
        )
        return msgspec.structs.replace(hello, **changes)

    async def register(self) -> None:
        """On the chain, countersigned over the link."""
        await self.say(link.AskCountersignature())
        vouched = await self.hear(link.Countersignature)
        offer = {"model": "tiny-lm", "kind": "chat", "price_per_kilounit": self.price, "digest": DIGEST}
        node = self.place.node
        node.signers["strange " + self.signer.address] = self.signer
        await asyncio.to_thread(
            node.send,
            "strange " + self.signer.address,
            "REGISTER",
            {"role": "provider", "models": [offer]},
            fee=0,
            witness={"hub": vouched.hub, "sig": vouched.sig},
        )

    async def say(self, message: Any) -> None:
        await self.connection.send(link.encode_message(message))

    async def hear(self, kind: type[Any]) -> Any:
        """The next message of a kind; others are passed over."""
        while True:
            frame = await asyncio.wait_for(self.connection.recv(), 5)
            assert isinstance(frame, str)
            message = link.decode_from_hub(frame)
            if isinstance(message, kind):
                return message

    async def take_task(self) -> link.Task:
        task: link.Task = await self.hear(link.Task)
        await self.say(link.Accepted(task_id=task.task_id))
        return task

    def make(self, offer: Offer, data: bytes = b" a strange story") -> tuple[Delivery, bytes]:
        """An honest delivery."""
        computed = Computed(
            data=data,
            counts={"in": 1, "out": 3},
            transcript=[bytes(32)],
            notes={},
            started_ms=1_000,
            finished_ms=1_001,
            engine_ms=1,
        )
        details = build_details(offer, computed)
        return self.sign(details, build_core(offer, details)), data

    def sign(self, details: Any, core: Any, *, signer: KeySigner | None = None) -> Delivery:
        digest = receipt_core_digest(core, self.place.node.genesis_hash)
        sig = (signer or self.signer).sign(digest).hex()
        return Delivery(details=details, core=core, sig=sig, media_type="text/plain; charset=utf-8")

    async def deliver(self, task: link.Task, delivery: Delivery, data: bytes) -> None:
        await self.say(link.Result(task_id=task.task_id, size=len(data), delivery=delivery))
        await self.connection.send(data)


def replace_price(hello: link.Hello, price_per_kilounit: int) -> link.Hello:
    models = [msgspec.structs.replace(model, price_per_kilounit=price_per_kilounit) for model in hello.models]
    return msgspec.structs.replace(hello, models=models)
