"""Each verified attack on seed 002 (ccoin), by its number, against a node of ours that agrees by work.

Numbers as in docs/spec/nakamoto.md "What seed 002 lets through". Elsewhere: 7 and 10 in tests/simulation/test_work.py,
9 also in tests/integration/test_miners.py (a transaction is sent after one was read), 12 in
tests/core/peer/test_handshake.py (a key cannot be borrowed), 13 in tests/core/test_work_replica.py.
"""

from itertools import count

import msgspec
import pytest

from aitbc.core.chain.builder import has_its_body
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import header_hash, transaction_id, wid_of
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.consensus.engine import PenalisePeer
from aitbc.core.consensus.nakamoto.work import is_enough, seal_of, search_digest, template_digest, work_hash
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.schemes import RSA_PSS
from aitbc.core.ledger.genesis import GenesisAccount
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.config import NodeConfig
from support.chain import Chain
from support.people import ALICE, BOB, EVE, person
from support.schemes import RSA_PRIMES, every_scheme
from support.work import REWARD, work_genesis
from support.work_host import Host, Maker, with_header

MINERS = (person("first miner"), person("second miner"))


def is_prime(number: int) -> bool:
    """Fermat to five bases: nobody here made the number to deceive."""
    small = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97)
    return all(number % prime for prime in small) and all(
        pow(base, number - 1, number) == 1 for base in (2, 3, 5, 7, 11)
    )


def test_1_a_key_with_the_same_leading_bits_is_somebody_else() -> None:
    """ccoin's address was 66 bits of the modulus, which a forger chose in 0.6 s."""
    victim = every_scheme()["rsa-pss"]
    modulus = RSA_PRIMES[0] * RSA_PRIMES[1]
    p = next(number for number in count(RSA_PRIMES[0] + 2, 2) if is_prime(number))
    q = next(number for number in count(modulus // p | 1, 2) if is_prime(number))
    forged = p * q
    assert forged >> 1_040 == modulus >> 1_040, "a thousand leading bits are the victim's"
    size = len(victim.auth_key) - 1
    assert victim.auth_key[0] == RSA_PSS
    body = victim.auth_key[1:].replace(modulus.to_bytes(256, "big"), forged.to_bytes(256, "big"))
    assert len(body) == size
    forged_key = bytes([RSA_PSS]) + body
    assert forged_key != victim.auth_key
    assert address_of(forged_key) != victim.address
    chain = Chain(work_genesis(accounts=[GenesisAccount(address=victim.address, balance=AIT)]))
    theft = Transaction(
        "TRANSFER", victim.address, 1, 1_000, jcs({"to": EVE.address, "amount": 5}), forged_key, b"", b""
    )
    d = pow(65_537, -1, (p - 1) * (q - 1))
    signed = msgspec.structs.replace(theft, sig=pss_sign(transaction_id(theft, chain.genesis_hash), p, q, d))
    verified = chain.executor.transactions.verify(signed)  # the signature is good, under its own key
    built = chain.executor.build([verified], proposer=EVE.address, timestamp_ms=chain.now_ms + 1)
    assert [rejection.reason for _, rejection in built.refused] == [Reason.WRONG_KEY]


def pss_sign(digest: bytes, p: int, q: int, d: int) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from aitbc.core.crypto.schemes import sign_rsa_pss

    public = rsa.RSAPublicNumbers(65_537, p * q)
    key = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()
    return sign_rsa_pss(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), digest)


@pytest.mark.parametrize("amount", [-1, -(10**9), 0])
def test_2_a_negative_amount_takes_nothing_from_anybody(amount: int) -> None:
    chain = Chain(work_genesis())
    with pytest.raises(Rejected) as rejected:
        chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount})
    assert rejected.value.reason == Reason.OUT_OF_RANGE


def test_3_who_is_not_listed_authors_nothing() -> None:
    """Neither in its own name nor in that of a listed miner."""
    maker = Maker(work_genesis(miners=MINERS), author=MINERS[0])
    host = Host(maker.document)
    host.show(maker.extend())
    maker.author = MINERS[1]
    good = maker.template()
    own_name = with_header(good, proposer=EVE.address)
    for block in (own_name, good):
        stolen = Block(maker.seal(block.header, signer=EVE), [])
        host.show(stolen)
    assert [effect.reason for effect in host.said(PenalisePeer)] == [
        Reason.WRONG_PROPOSER,
        Reason.BAD_SIGNATURE,
    ]
    assert host.head.height == 1
    host.show(maker.take(Block(maker.seal(good.header), [])))
    assert host.head.height == 2


def test_4_a_block_does_not_say_what_it_pays() -> None:
    """There is no such field, and a state in which more was paid has another root."""
    maker = Maker()
    host = Host(maker.document)
    richer = Maker(work_genesis(accounts=[GenesisAccount(address=EVE.address, balance=10**9)]))
    lie = with_header(maker.template(), state_root=richer.template().header.state_root)
    host.show(Block(maker.seal(lie.header), []))
    assert host.said(PenalisePeer)[0].reason == Reason.ROOT_MISMATCH
    assert (host.head.height, host.executor.state.account(EVE.address).balance) == (0, 0)
    host.show(maker.extend())
    assert host.executor.state.account(EVE.address).balance == REWARD


def test_5_a_bad_signature_inside_a_block_leaves_the_head_where_it_was() -> None:
    maker = Maker()
    host = Host(maker.document)
    host.show(maker.extend())
    signer = Chain(work_genesis())
    tx = signer.verified(ALICE, "TRANSFER", {"to": EVE.address, "amount": AIT})
    good = maker.template([tx])
    forged = msgspec.structs.replace(tx.tx, sig=bytes(64))
    root = list_root([wid_of(forged, signer.genesis_hash)])
    header = maker.seal(msgspec.structs.replace(good.header, txs_root=root))
    block = Block(header, [forged])
    assert has_its_body(block, signer.genesis_hash), "it is what its header says, and has its work"
    before = host.executor.head, host.executor.state.root()
    host.show(block)
    assert host.said(PenalisePeer)[0].reason == Reason.BAD_SIGNATURE
    assert (host.executor.head, host.executor.state.root()) == before
    stored = host.store.load()
    assert stored is not None
    assert stored.head == before[0]
    host.show(maker.take(Block(maker.seal(good.header), good.txs)))
    assert host.head.height == 2


def test_6_work_that_is_not_there_has_a_name() -> None:
    maker = Maker()
    host = Host(maker.document)
    good = maker.seal(maker.template().header)
    target = maker.links[-1].child_target
    search = search_digest(template_digest(good), b"")
    wrong = next(nonce for nonce in count() if not is_enough(work_hash(search, nonce), target))
    header = msgspec.structs.replace(good, seal=seal_of(wrong, b""))
    with pytest.raises(Rejected, match="not_enough_work"):
        maker.rules.check(header, maker.links[-1])
    host.show(Block(header, []))
    assert host.said(PenalisePeer)[0].reason == Reason.NOT_ENOUGH_WORK
    assert host.head.height == 0


def test_8_block_1_is_not_block_10() -> None:
    """ccoin's keys had no end: the state of block 1 was that of a block from 10 to 19."""
    maker = Maker()
    host = Host(maker.document)
    host.show(*maker.grow(13))
    for height in (1, 10, 11, 13):
        stored = host.store.head_at(height)
        assert stored is not None
        assert stored.header == maker.blocks[height - 1].header
    early = host.store.load(1)
    assert early is not None
    balances = {key: int.from_bytes(data[:8], "big") for _, key, data in early.records["accounts"]}
    assert balances[EVE.address] == REWARD
    proof = host.executor.prove("accounts", EVE.address, height=10)
    assert int.from_bytes(proof.proof.value[:8], "big") == 10 * REWARD


def test_9_nobody_listens_to_the_world_unasked() -> None:
    config = NodeConfig.__struct_fields__.index("rpc_host")
    defaults = NodeConfig.__struct_defaults__[-(len(NodeConfig.__struct_fields__) - config) :]
    assert defaults[0] == "127.0.0.1"


def test_11_a_block_hash_covers_its_transactions() -> None:
    maker, signer = Maker(), Chain(work_genesis())
    block = maker.extend([signer.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5})])
    other = signer.sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": 5}, nonce=1)
    assert has_its_body(block, signer.genesis_hash)
    for txs in ([], [other], [*block.txs, other], block.txs * 2):
        assert not has_its_body(Block(block.header, txs), signer.genesis_hash)
    extra = with_header(block, extra=b"another word")
    assert header_hash(extra.header) != header_hash(block.header)


def test_a_listed_miner_is_known_by_its_key_not_by_a_claim() -> None:
    """Attack 12, as far as authors go: whoever says to be a miner has to sign as one."""
    genesis = work_genesis(miners=MINERS)
    assert genesis.consensus.work is not None
    assert genesis.consensus.work.miners == [key_to_text(who.auth_key) for who in MINERS]
    maker = Maker(genesis, author=MINERS[0])
    assert [miner.address for miner in maker.rules.schedule._miners] == [who.address for who in MINERS]  # type: ignore[union-attr]
