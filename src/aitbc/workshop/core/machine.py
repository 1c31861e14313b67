"""A workshop node without hands: what peers say goes in, what to send, dial, write down and mine comes out.
docs/spec/workshop.md

Peering below it knows connections, the chain blocks, the pool transactions; here they meet.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from aitbc.core.peer.frames import Type
from aitbc.core.peer.messages import Bucket
from aitbc.workshop.core.chain import Added, Chain, Outcome, replay
from aitbc.workshop.core.effects import Effect, Keep, Mine, Note
from aitbc.workshop.core.gossip import HOPS, Path, Paths, Seen, passed_on, search_id
from aitbc.workshop.core.keys import ADDRESS_BYTES
from aitbc.workshop.core.kinds import (
    ACCOUNT,
    ANCESTORS,
    CHECKS,
    FOUND,
    ID_BYTES,
    MAX_ANCESTORS,
    MAX_ANCESTORS_BYTES,
    NEW_BLOCK,
    NEW_TX,
    SEARCH,
    STATUS,
    SUBMIT,
)
from aitbc.workshop.core.mempool import Mempool
from aitbc.workshop.core.peering import MAX_PEERS, Link, Message, Peering
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import (
    HASH_BYTES,
    Block,
    Transaction,
    decode_text,
    parse_block,
    parse_transaction,
)
from aitbc.workshop.core.wants import DIRECT_MS, SEARCH_MS, Stage, Want, Wants

AGAIN_MS = 30_000
"""Our users' transactions are told again: the reference forgets one a minute after it last heard of it."""
MAX_OWN = 256
NOBODY = 0
"""A link that is none: the block is our own."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    listen: str = "127.0.0.1:15151"
    """The address told to others."""
    bootstrap: tuple[str, ...] = ()
    max_peers: int = MAX_PEERS
    coinbase: bytes | None = None
    """Whom blocks that are mined here pay; None for a node that does not mine."""
    rules: Rules = Rules()


class Machine:
    """Each method that takes a fact returns what it causes."""

    def __init__(self, settings: Settings, entropy: Callable[[int], bytes]) -> None:
        assert settings.coinbase is None or len(settings.coinbase) == ADDRESS_BYTES, "we pay compressed keys"
        self.settings = settings
        self.chain = Chain(settings.rules)
        self.pool = Mempool(self.chain.accounts)
        self.refused: Counter[WorkshopReason] = Counter()
        self.peering = Peering(
            listen=settings.listen,
            bootstrap=settings.bootstrap,
            entropy=entropy,
            max_peers=settings.max_peers,
        )
        self._entropy = entropy
        self._seen = Seen()
        self._paths = Paths()
        self._wants = Wants()
        self._own: dict[bytes, tuple[Transaction, int]] = {}
        """Taken from users of this node, and when each was told last."""
        self._checks = Bucket(CHECKS, 0)
        self._greeted: set[int] = set()
        """Links whose tip was asked for."""
        self._template: Block | None = None
        self._now_ms = 0

    # What the host tells

    def load(self, blocks: Iterable[Block]) -> None:
        """Before anything else: what was kept, in that order."""
        replay(self.chain, blocks)

    def opened(self, now_ms: int, link: int, host: str, dialled: str | None) -> list[Effect]:
        self._now_ms = now_ms
        self.peering.opened(now_ms, link, host, dialled)
        return self._effects()

    def dial_failed(self, now_ms: int, where: str) -> list[Effect]:
        self._now_ms = now_ms
        self.peering.dial_failed(now_ms, where)
        return self._effects()

    def lost(self, now_ms: int, link: int) -> list[Effect]:
        self._now_ms = now_ms
        self.peering.lost(now_ms, link)
        return self._effects()

    def received(self, now_ms: int, link: int, data: bytes) -> list[Effect]:
        """Bytes of a stranger: whatever they are, this raises nothing."""
        self._now_ms = now_ms
        for message in self.peering.receive(now_ms, link, data):
            try:
                self._handle(message)
            except WorkshopFault as fault:
                self._count(fault, message.link)
        self._pursue()
        return self._effects()

    def tick(self, now_ms: int) -> list[Effect]:
        """Each second."""
        self._now_ms = now_ms
        self.peering.tick(now_ms)
        self._greet()
        self.pool.forget_old(now_ms)
        self.chain.forget_old_orphans(now_ms)
        self._seen.forget_old(now_ms)
        self._paths.forget_old(now_ms)
        self._wants.keep_only(self.chain.missing())
        self._pursue()
        self._tell_own_again()
        self._refresh_template()
        return self._effects()

    def mined(self, now_ms: int, template: Block, nonce: int) -> list[Effect]:
        """A nonce was found; for an older template it is of no use unless its block is still a good one."""
        self._now_ms = now_ms
        block = Block(template.number, nonce, template.parent, template.coinbase, template.transactions)
        try:
            self._take_block(block, NOBODY)
        except WorkshopFault as fault:
            self._note(f"a block of our own is refused: {fault}")
            self._template = (
                None  # the next tick has it, or a better one, searched again: the miner rests by now
            )
            return self._effects()
        self._note(f"mined block {block.number} {block.hash.hex()[:16]}")
        self._gossip(NEW_BLOCK.name, self._new_id(), block.text.encode(), NOBODY)
        return self._effects()

    def submit(self, now_ms: int, transaction: Transaction) -> list[Effect]:
        """From a user of this node; raises WorkshopFault."""
        self._now_ms = now_ms
        self._take_own(transaction)
        return self._effects()

    # What a user asks

    def status(self) -> dict[str, object]:
        chain = self.chain
        return {
            "height": chain.height,
            "tip": chain.tip.hash.hex(),
            "difficulty": chain.rules.difficulty,
            "peers": self.peering.addresses(),
            "waiting": len(self.pool),
            "orphans": chain.orphans,
            "accounts": len(chain.accounts),
            "overfullHeight": chain.overfull_height,
            "refused": dict(sorted(self.refused.items())),
            "mining": self.settings.coinbase is not None,
        }

    def account(self, key: bytes) -> dict[str, object]:
        account = self.chain.accounts[key]
        return {"balance": account.balance, "nonce": account.nonce, "nextNonce": self.pool.next_nonce(key)}

    # Messages

    def _handle(self, message: Message) -> None:
        link, payload = message.link, message.payload
        match message.kind.name:
            case NEW_TX.name | NEW_BLOCK.name | SEARCH.name:
                self._hear_gossip(message)
            case FOUND.name:
                self._hear_found(link, payload)
            case ANCESTORS.name if message.type == Type.ANSWER:
                self._hear_ancestors(message)
            case ANCESTORS.name if message.type == Type.REQUEST:
                self.peering.answer(link, message.id, self._ancestors(payload))
            case SUBMIT.name if message.type == Type.REQUEST:
                self.peering.answer(link, message.id, self._hear_submitted(payload))
            case ACCOUNT.name if message.type == Type.REQUEST:
                self.peering.answer(link, message.id, json.dumps(self.account(payload)).encode())
            case STATUS.name if message.type == Type.REQUEST:
                self.peering.answer(link, message.id, json.dumps(self.status()).encode())
            case _:
                pass  # our own kinds as statements, which nobody sends

    def _hear_gossip(self, message: Message) -> None:
        """Judged once, passed on when it is good. docs/spec/workshop.md "Gossip" """
        id_, content = message.payload[:ID_BYTES], message.payload[ID_BYTES:]
        if len(id_) < ID_BYTES:
            raise WorkshopFault(WorkshopReason.BAD_PAYLOAD, f"a gossip id of {len(id_)} bytes")
        if not self._seen.is_new(id_, self._now_ms):
            return
        match message.kind.name:
            case NEW_TX.name:
                goes_on = self._hear_transaction(id_, content)
            case NEW_BLOCK.name:
                goes_on = self._take_block(parse_block(decode_text(content)), message.link.id)
            case _:
                self._hear_search(message.link, id_, content)
                goes_on = False
        if goes_on:
            self._gossip(message.kind.name, id_, content, message.link.id)

    def _gossip(self, kind: bytes, id_: bytes, content: bytes, source: int) -> None:
        self._seen.is_new(id_, self._now_ms)
        for peer in self._others(source):
            self.peering.say(peer, kind, id_ + content)

    def _others(self, source: int) -> list[Link]:
        """All peers but the one that said it, on whichever of its links."""
        link = self.peering.links.get(source)
        where = (link.host, link.where) if link else None
        return [peer for peer in self.peering.peers() if (peer.host, peer.where) != where]

    # Transactions

    def _hear_transaction(self, id_: bytes, content: bytes) -> bool:
        transaction = parse_transaction(decode_text(content))
        if self.pool.has(transaction):
            return False
        if not self._checks.take(self._now_ms):
            self._seen.forget(id_)
            raise WorkshopFault(WorkshopReason.TOO_BUSY, "signatures of strangers")
        self.pool.add(transaction, self._now_ms)
        return True

    def _hear_submitted(self, payload: bytes) -> bytes:
        try:
            if not self._checks.take(self._now_ms):
                raise WorkshopFault(WorkshopReason.TOO_BUSY, "signatures of strangers")
            self._take_own(parse_transaction(decode_text(payload)))
        except WorkshopFault as fault:
            return str(fault).encode()[:1_024]
        return b""

    def _take_own(self, transaction: Transaction) -> None:
        if not self.pool.has(transaction):
            self.pool.add(transaction, self._now_ms)
        if len(self._own) < MAX_OWN:
            self._own[transaction.hash] = (transaction, self._now_ms)
        self._gossip(NEW_TX.name, self._new_id(), transaction.text.encode(), NOBODY)

    def _tell_own_again(self) -> None:
        for hash_, (transaction, told_ms) in list(self._own.items()):
            if not self.pool.has(transaction):
                del self._own[hash_]
            elif self._now_ms - told_ms >= AGAIN_MS:
                self._own[hash_] = (transaction, self._now_ms)
                self._gossip(NEW_TX.name, self._new_id(), transaction.text.encode(), NOBODY)

    # Blocks

    def _take_block(self, block: Block, source: int) -> bool:
        """Whether it is new and good as far as can be known now; raises WorkshopFault."""
        wanted = block.hash in self._wants
        added = self.chain.add(block, self._now_ms, wanted=wanted)
        if added.outcome is Outcome.KNOWN:
            return False
        self._wants.drop(block.hash)
        if added.missing is not None:
            self._wants.add(added.missing, source)
        self.peering.out += [Keep(one) for one in added.connected]
        if added.outcome is Outcome.CHAIN:
            self._follow_tip(added)
        return True

    def _follow_tip(self, added: Added) -> None:
        if added.dropped:
            tip = self.chain.tip
            self._note(f"reorganised: {len(added.dropped)} blocks left, now at {tip.number}")
        self.pool.follow()
        lost = [one for block in reversed(added.dropped) for one in block.transactions]
        self.pool.take_from_branch(lost, self._now_ms)
        self._refresh_template()

    def _refresh_template(self) -> None:
        """The tip or the best choice of transactions is another than what is being mined."""
        if self.settings.coinbase is None:
            return
        tip = self.chain.tip
        chosen = tuple(self.pool.choose(self.settings.rules.max_transactions))
        template = Block(tip.number + 1, 0, tip.hash, self.settings.coinbase, chosen)
        if template != self._template:
            self._template = template
            self.peering.out.append(Mine(template))

    # Search, for others

    def _hear_search(self, link: Link, id_: bytes, content: bytes) -> None:
        search, wanted = content[:ID_BYTES], content[ID_BYTES:]
        if len(wanted) != HASH_BYTES:
            raise WorkshopFault(WorkshopReason.BAD_PAYLOAD, f"a search for {len(wanted)} bytes")
        block = self.chain.get(wanted)
        if block is not None:
            self.peering.say(link, FOUND.name, search + block.text.encode())
            return
        further = passed_on(search)
        if further is not None and self._paths.add(further, Path(link.id, search, wanted, self._now_ms)):
            self._gossip(SEARCH.name, id_, further + wanted, link.id)

    def _hear_found(self, link: Link, payload: bytes) -> None:
        """With the id of a search, or, from a reference node that relayed it, without."""
        id_, text = payload[:ID_BYTES], payload[ID_BYTES:]
        path, want = self._paths.get(id_), self._wants.by_id(id_)
        if path is None and want is None:
            block = self._block_without_id(payload)
        else:
            block = parse_block(decode_text(text))
            self._check_found(block, path.wanted if path else want.hash if want else b"")
        for one in self._paths.of_hash(block.hash):
            self._send_back(self._paths.take(one), block)
        if block.hash in self._wants:
            self._take_block(block, link.id)

    def _block_without_id(self, payload: bytes) -> Block:
        """Either the text stands alone, or behind an id that nobody waits for any more."""
        try:
            block = parse_block(decode_text(payload))
        except WorkshopFault:
            raise WorkshopFault(WorkshopReason.UNASKED_ANSWER, "an answer to no search") from None
        if block.hash not in self._wants and not self._paths.of_hash(block.hash):
            raise WorkshopFault(WorkshopReason.UNASKED_ANSWER, f"block {block.hash.hex()[:16]}")
        return block

    def _check_found(self, block: Block, wanted: bytes) -> None:
        if block.hash != wanted:
            message = f"block {block.hash.hex()[:16]} for {wanted.hex()[:16]}"
            raise WorkshopFault(WorkshopReason.WRONG_ANSWER, message)

    def _send_back(self, path: Path, block: Block) -> None:
        asker = self.peering.links.get(path.link)
        if asker is not None:
            self.peering.say(asker, FOUND.name, path.id + block.text.encode())

    # Search, for ourselves

    def _pursue(self) -> None:
        for want in self._wants.due(self._now_ms):
            self._ask_for(want)

    def _ask_for(self, want: Want) -> None:
        teller = self.peering.links.get(want.teller)
        if want.stage is Stage.NEW and teller is not None and teller.registered:
            want.stage, want.again_ms = Stage.ASKED, self._now_ms + DIRECT_MS
            if teller.ours:
                self.peering.ask(teller, ANCESTORS, want.hash)
            else:
                self._search(want, [teller], hops=0)
            return
        peers = self.peering.peers()
        want.stage, want.again_ms = Stage.SEARCHED, self._now_ms + (SEARCH_MS if peers else DIRECT_MS)
        self._search(want, peers, hops=HOPS)

    def _search(self, want: Want, peers: Sequence[Link], *, hops: int) -> None:
        id_, search = self._new_id(), search_id(self._entropy(12), hops)
        want.ids = [*want.ids[-3:], search]
        self._seen.is_new(id_, self._now_ms)
        for peer in peers:
            self.peering.say(peer, SEARCH.name, id_ + search + want.hash)

    # Our own kinds

    def _greet(self) -> None:
        """Ask each new peer for its tip: one of ours answers, a reference node keeps silent."""
        self._greeted &= self.peering.links.keys()
        for peer in self.peering.peers():
            if peer.id not in self._greeted:
                self._greeted.add(peer.id)
                self.peering.ask(peer, ANCESTORS, b"")

    def _ancestors(self, payload: bytes) -> bytes:
        block = self.chain.get(payload) if payload else self.chain.tip
        texts: list[bytes] = []
        size = 0
        while block is not None and block.number > 0 and len(texts) < MAX_ANCESTORS:
            text = block.text.encode()
            size += len(text) + 1
            if texts and size > MAX_ANCESTORS_BYTES:
                break
            texts.append(text)
            block = self.chain.get(block.parent)
        return b"\n".join(texts)

    def _hear_ancestors(self, message: Message) -> None:
        """Each must be the parent of the one before it; taken from the lowest up, so little waits as an orphan."""
        message.link.ours = True
        if not message.payload:
            self._wants.hurry(message.about)
            return
        blocks = [parse_block(text) for text in decode_text(message.payload).split("\n")[:MAX_ANCESTORS]]
        expected = message.about or blocks[0].hash
        for block in blocks:
            self._check_found(block, expected)
            expected = block.parent
        for block in reversed(blocks):
            self._take_block(block, message.link.id)

    # Small things

    def _new_id(self) -> bytes:
        return self._entropy(ID_BYTES)

    def _count(self, fault: WorkshopFault, link: Link) -> None:
        """A peer is not blamed: a reference node relays what it did not check."""
        self.refused[fault.reason] += 1
        if fault.reason is WorkshopReason.TOO_MANY_TRANSACTIONS:
            self.peering.note(
                f"{fault.message}: refused here, followed by reference nodes, so this may be a fork;"
                " see --follow-overfull"
            )
        elif fault.reason is not WorkshopReason.NONCE_TAKEN:
            self.peering.note(f"refused from {link.where or link.host}: {fault}")

    def _note(self, text: str) -> None:
        self.peering.out.append(Note(text))

    def _effects(self) -> list[Effect]:
        effects, self.peering.out = self.peering.out, []
        return effects
