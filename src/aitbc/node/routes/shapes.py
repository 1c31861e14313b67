"""The shapes of the RPC's answers, for its OpenAPI document: answers are built elsewhere, tests compare the two.

Names are those of the JSON. docs/spec/rpc.md
"""

from typing import Annotated, Any, Literal

import msgspec

Height = Annotated[int, msgspec.Meta(ge=0)]
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$")]
Address = Annotated[str, msgspec.Meta(pattern="^ait1[0-9a-z]{38}$")]
Amount = Annotated[int, msgspec.Meta(ge=0)]
Total = int | str
"""A decimal string above 2^53 − 1."""
TransactionStatus = Literal["pending", "final", "failed", "dropped"]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer; what has a default may be missing."""


class Problem(Shape, frozen=True, kw_only=True):
    """An error: RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable; see docs/errors.md."""
    fix: str
    """What to do, in one line."""


class Head(Shape, frozen=True, kw_only=True):
    height: Height
    hash: Hash
    timestampMs: int
    chainId: str
    genesisHash: Hash


class Header(Shape, frozen=True, kw_only=True):
    hash: Hash
    parent: Hash
    height: Height
    timestamp: int
    proposer: str
    stateRoot: Hash
    version: int
    chainId: str
    timestampMs: int
    txsRoot: Hash
    outcomesRoot: Hash
    nextValidatorsHash: Hash
    historyRoot: Hash
    extra: Hex
    seal: Hex


class HeadHeader(Header, frozen=True, kw_only=True):
    genesisHash: Hash


class Certificate(Shape, frozen=True, kw_only=True):
    kind: str
    epoch: int
    slot: int
    parentSlot: int
    parentId: Hash
    blockHash: Hash
    bitmap: int
    signatures: list[Hex]


class Account(Shape, frozen=True, kw_only=True):
    address: Address
    balance: Total
    nonce: int


class WholeAccount(Account, frozen=True, kw_only=True):
    pubkey: str
    nextNonce: int


class Transaction(Shape, frozen=True, kw_only=True):
    type: str
    sender: str
    nonce: int
    fee: Amount
    payload: dict[str, Any]
    sig: Hex
    pubkey: str = ""
    witness: dict[str, Any] = {}


class Event(Shape, frozen=True, kw_only=True):
    kind: str
    key: str
    amount: Amount


class Outcome(Shape, frozen=True, kw_only=True):
    txHash: Hash
    status: Literal["ok", "failed", "dropped"]
    reason: str
    message: str
    fee: Amount
    events: list[Event]


class ListProof(Shape, frozen=True, kw_only=True):
    index: int
    count: int
    path: list[Hash]


class TransactionProof(Shape, frozen=True, kw_only=True):
    header: Header
    certificate: Certificate | None
    txProof: ListProof
    outcomeProof: ListProof


class FinalTransaction(Shape, frozen=True, kw_only=True):
    status: TransactionStatus
    txHash: Hash
    height: Height
    index: int
    timestampMs: int
    tx: Transaction
    receipt: Outcome
    confirmations: int = 0
    """Where work agrees: blocks on top of it, and its own."""
    final: bool = True
    """Where work agrees: its block cannot be left any more."""


class TransactionAnswer(Shape, frozen=True, kw_only=True):
    status: TransactionStatus
    txHash: Hash
    height: Height | None
    index: int | None
    tx: Transaction | None
    receipt: Outcome | None
    proof: TransactionProof | None
    timestampMs: int = 0
    confirmations: int = 0
    """Where work agrees: blocks on top of it, and its own."""
    final: bool = True
    """Where work agrees: its block cannot be left any more."""
    known: bool = False
    """Of sendTx with `wait`: it waited, or was in a block, before it was sent."""


class Block(Header, frozen=True, kw_only=True):
    txs: list[Hash]
    sig: Hex
    certificate: Certificate | None
    next: int | None
    transactions: list[FinalTransaction] = []
    """With `full`."""
    accounts: list[Account] = []
    """With `full`: those that the page's transactions touched."""
    accountsAt: Height = 0
    """The block after which the accounts were so: this one, or the head when it is too old."""


class TxHash(Shape, frozen=True, kw_only=True):
    txHash: Hash
    known: bool = False
    """It waited, or was in a block, before it was sent."""


class UpdateApproval(Shape, frozen=True, kw_only=True):
    validator: str
    sig: str


class SignedUpdate(Shape, frozen=True, kw_only=True):
    """With `submit: false`."""

    payload: dict[str, Any]
    approval: UpdateApproval


class ItemError(Shape, frozen=True, kw_only=True):
    code: str
    detail: str
    fix: str


class SubmittedItem(Shape, frozen=True, kw_only=True):
    txHash: Hash | None
    error: ItemError | None = None
    known: bool = False
    """It waited, or was in a block, before it was sent."""


class Submitted(Shape, frozen=True, kw_only=True):
    accepted: int
    refused: int
    items: list[SubmittedItem]


class UpstreamAnswer(Shape, frozen=True, kw_only=True):
    success: bool
    transaction_hash: Hash
    message: str


class Fee(Shape, frozen=True, kw_only=True):
    fee: Amount


class Count(Shape, frozen=True, kw_only=True):
    count: int


class HeightAnswer(Shape, frozen=True, kw_only=True):
    height: Height


class HeaderPage(Shape, frozen=True, kw_only=True):
    items: list[Header]
    next: str | None


class TransactionPage(Shape, frozen=True, kw_only=True):
    items: list[FinalTransaction]
    next: str | None


class WaitingTransaction(Transaction, frozen=True, kw_only=True):
    txHash: Hash


class MempoolPage(Shape, frozen=True, kw_only=True):
    count: int
    bytes: int
    items: list[WaitingTransaction]
    next: str | None


class AccountPage(Shape, frozen=True, kw_only=True):
    height: Height
    hash: Hash
    stateRoot: Hash
    items: list[Account]
    next: str | None


class Allocation(Shape, frozen=True, kw_only=True):
    address: Address
    balance: Amount


class AllocationPage(Shape, frozen=True, kw_only=True):
    items: list[Allocation]
    next: str | None


class Lock(Shape, frozen=True, kw_only=True):
    id: Hash
    client: Address
    hub: Address
    job_id: str
    amount: Amount
    paid: Amount
    tasks: int
    paid_tasks: str
    request_hash: str
    deliver_by_ms: int
    claim_until_ms: int
    height: Height
    status: str
    session: bool
    closed_ms: int


class ListedReceipt(Shape, frozen=True, kw_only=True):
    receipt_id: str
    job_id: str
    client: Address
    provider: Address
    hub: Address
    units: int
    price: Amount
    minted: Amount
    output_hash: str
    miner_sig: str
    lock: str
    task: int
    attempt: int
    height: Height
    timestampMs: int
    txHash: Hash


class Receipt(ListedReceipt, frozen=True, kw_only=True):
    details_hash: str


class ReceiptPage(Shape, frozen=True, kw_only=True):
    items: list[ListedReceipt]
    next: str | None


class Job(Shape, frozen=True, kw_only=True):
    job_id: str
    receipts: list[ListedReceipt]
    locks: list[Lock]
    next: str | None


class Attested(Shape, frozen=True, kw_only=True):
    exists: bool
    paid: bool
    not_double_spent: bool
    synthetic: bool
    quote: dict[str, int]
    attestation: dict[str, Any]
    sig: Hex


class Validator(Shape, frozen=True, kw_only=True):
    address: Address
    pubkey: str
    power: int


class Validators(Shape, frozen=True, kw_only=True):
    epoch: int
    items: list[Validator]


class Finality(Shape, frozen=True, kw_only=True):
    headers: list[Header]
    certificate: Certificate
    validators: list[Validator]


class Leaf(Shape, frozen=True, kw_only=True):
    index: int
    count: int
    key: str
    value: Hex
    next: str


class RecordProof(Shape, frozen=True, kw_only=True):
    header: Header
    certificate: Certificate | None
    store: str
    key: str
    storeRoots: dict[str, Hash]
    leaf: Leaf
    groups: list[list[Hash]]


class AncestorProof(Shape, frozen=True, kw_only=True):
    header: Header
    head: Header
    certificate: Certificate | None
    count: int
    nodes: list[Hash]


class Supply(Shape, frozen=True, kw_only=True):
    total: Total
    genesis: Total
    minted: Total
    faucet: Total
    rewards: Total
    burned: Total


class RegistryPage(Shape, frozen=True, kw_only=True):
    items: list[dict[str, Any]]
    next: str | None


class Health(Shape, frozen=True, kw_only=True):
    status: Literal["ok", "stopped"]
    role: str
    height: Height
    authoring: bool
    validating: bool
    peers: int


class Live(Shape, frozen=True, kw_only=True):
    live: bool


class Ready(Shape, frozen=True, kw_only=True):
    ready: bool
    why: Literal["", "stopped", "catches_up"]


class Peer(Shape, frozen=True, kw_only=True):
    key: Hex
    where: str
    outbound: bool
    configured: bool
    since_ms: int
    last_seen_ms: int
    latency_ms: int | None
    clock_skew_ms: int
    points: int
    agent: str
    features: list[str]
    role: str
    head_height: int
    finalised_height: int


class SyncStatus(Shape, frozen=True, kw_only=True):
    state: str
    height: Height
    target: Height
    blocksPerSecond: float | None
    etaS: int | None


class Info(Head, frozen=True, kw_only=True):
    version: str
    mode: str
    peers: int
    mempool: int
    validating: bool


class Chain(Shape, frozen=True, kw_only=True):
    chain_id: str
    genesis_hash: Hash
    height: Height


class Chains(Shape, frozen=True, kw_only=True):
    items: list[Chain]


class ConsensusMember(Shape, frozen=True, kw_only=True):
    address: Address
    power: int
    state: Literal["self", "ok", "slow", "silent", "unheard"]
    heardMs: int | None
    lateMs: int | None
    led: int
    skipped: int
    timeouts: int
    missed: int
    invalid: int


class ConsensusEvent(Shape, frozen=True, kw_only=True):
    what: str
    epoch: int
    slot: int
    leader: str
    lateMs: int
    reason: str | None
    timestampMs: int


class Fault(Shape, frozen=True, kw_only=True):
    validator: Address
    epoch: int
    slot: int
    kinds: list[str]
    evidence: str
    txHash: Hash | None


class Consensus(Shape, frozen=True, kw_only=True):
    role: str
    mode: str
    height: Height
    epoch: int
    epochEnds: int
    slot: int
    finalSlot: int
    leader: Address
    address: str
    part: str
    why: str
    peers: int
    power: int
    quorum: int
    rounds: int
    skips: int
    timeouts: int
    validators: list[ConsensusMember]
    faults: list[Fault]
    events: list[ConsensusEvent]


class PeerAdded(Shape, frozen=True, kw_only=True):
    added: str


class Genesis(Shape, frozen=True, kw_only=True):
    chain_id: str
    timestamp: int
    accounts: list[dict[str, Any]]
    params: dict[str, Any]
    authorities: list[dict[str, Any]]
    consensus: dict[str, Any]
