"""genesis.json: the seed's keys plus `consensus`; its hash names the chain. Seed 000 §13. docs/spec/genesis.md"""

from itertools import pairwise
from typing import Annotated, Literal

import msgspec

from aitbc.core.codec.canonical import jcs, parse_json
from aitbc.core.codec.digests import genesis_hash_of, header_hash, validators_hash
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import address_of, check_address
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.mountains import peaks_root
from aitbc.core.crypto.schemes import ED25519
from aitbc.core.ledger.params import Params, names_of, params_to_texts, version_at
from aitbc.core.ledger.state import State, check_whole_supply
from aitbc.core.types.amounts import MAX_SIGNED, MAX_TOTAL, AmountOrZero
from aitbc.core.types.blocks import PROTOCOL_VERSION, ZERO_HASH, Block, CommittedBlock, Header, Validator
from aitbc.core.types.nakamoto import WORK_MODES, NakamotoSettings, WorkMode, check_settings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import STORES, Account, Bond, Commit, Param, Record, ValidatorRecord

MAX_GENESIS_BYTES = 64 * 1024 * 1024
"""Room for half a million accounts."""


RHYTHM_OF_VOTES = ("block_time_ms", "idle_ms")
"""Of `consensus`, what a chain that agrees by work has not: its document does not name them."""


class GenesisAccount(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    address: str
    balance: AmountOrZero
    pubkey: str = ""


class Authority(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pubkey: str
    stake: AmountOrZero = 0
    """Base units of its bond as a validator, beside its balance; under `hybrid`, where it is the power."""


class ConsensusSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How blocks come about. `idle_ms` equal to `block_time_ms` gives the seed's fixed rhythm."""

    mode: Literal["poa", "cbp", "hybrid"] | WorkMode = "poa"
    block_time_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 1_000
    """Least time between blocks; 0 = as soon as a transaction waits."""
    idle_ms: Annotated[int, msgspec.Meta(ge=100, le=3_600_000)] = 10_000
    """Without transactions, one empty block in this time."""
    epoch_length: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 600
    """Heights in an epoch."""
    work: NakamotoSettings | None = None
    """Under `pow` and `poa-pow`, and there only; their blocks have no other rhythm than this says."""


class Genesis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The document; every field is there, so it has one canonical form."""

    chain_id: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,63}\Z")]
    timestamp: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED // 1000)]
    """Seconds since the Unix epoch."""
    accounts: list[GenesisAccount]
    params: Params
    authorities: Annotated[list[Authority], msgspec.Meta(max_length=50)]
    """The validator set, of a chain that agrees by votes; where work agrees there is none."""
    consensus: ConsensusSettings


class LoadedGenesis(msgspec.Struct, frozen=True):
    genesis: Genesis
    document: bytes
    """In its canonical bytes, which the hash is of."""
    hash: bytes
    state: State
    first: Commit
    """Block 0 with the state that it begins."""
    validators: list[Validator]

    @property
    def block(self) -> CommittedBlock:
        return self.first.block


def parse_genesis(raw: bytes) -> Genesis:
    """Decode and check a genesis document; raises Rejected with what to mend."""
    genesis = parse_json(raw, Genesis, limit=MAX_GENESIS_BYTES)
    _check(genesis)
    return genesis


def _check(genesis: Genesis) -> None:
    addresses = [account.address for account in genesis.accounts]
    if len(set(addresses)) != len(addresses):
        raise Rejected(Reason.BAD_GENESIS, "accounts lists an address twice")
    for account in genesis.accounts:
        check_address(account.address)
        if account.pubkey and address_of(key_from_text(account.pubkey)) != account.address:
            raise Rejected(Reason.BAD_GENESIS, f"pubkey of {account.address} makes another address")
    if _supply(genesis) > MAX_TOTAL:
        raise Rejected(Reason.BAD_GENESIS, "balances and stakes add up to more than 2^63 - 1")
    keys = [authority.pubkey for authority in genesis.authorities]
    if len(set(keys)) != len(keys):
        raise Rejected(Reason.BAD_GENESIS, "authorities lists a key twice")
    if any(key_from_text(key)[0] != ED25519 for key in keys):
        raise Rejected(Reason.BAD_GENESIS, "authorities sign with Ed25519")
    params = genesis.params
    _check_versions(params)
    if genesis.consensus.work is None:
        _check_votes(genesis)
    else:
        _check_work(genesis, genesis.consensus.work)
    for name in (params.faucet, params.synthetic_attester):
        if name and not params.devnet:
            raise Rejected(Reason.BAD_GENESIS, "faucet and synthetic_attester need devnet = 1")
    for address in [*params.hubs, params.treasury, params.faucet, params.synthetic_attester]:
        if address:
            check_address(address)


def _check_versions(params: Params) -> None:
    activations = params.activations
    for earlier, later in pairwise(activations):
        if later.version <= earlier.version or later.height <= earlier.height:
            raise Rejected(Reason.BAD_GENESIS, "activations ascend in version and in height")
    if activations and activations[0].height != 0:
        raise Rejected(
            Reason.BAD_GENESIS, "a genesis begins with its version: the first of activations has height 0"
        )
    if version_at(params, 0) > PROTOCOL_VERSION:
        raise Rejected(
            Reason.WRONG_VERSION,
            f"this genesis begins with protocol version {version_at(params, 0)}; this release knows"
            f" {PROTOCOL_VERSION}: install the release that knows it",
        )
    plain = Params()
    for name in Params.__struct_fields__:
        if name not in names_of(params) and getattr(params, name) != getattr(plain, name):
            raise Rejected(
                Reason.BAD_GENESIS,
                f'{name} came with version 2: add activations [{{"version": 2, "height": 0}}] to params',
            )


def _check_votes(genesis: Genesis) -> None:
    if genesis.consensus.mode in WORK_MODES:
        raise Rejected(Reason.BAD_GENESIS, f"mode {genesis.consensus.mode} needs `work` in consensus")
    if not genesis.authorities:
        raise Rejected(Reason.OUT_OF_RANGE, "authorities lists nobody: somebody has to author blocks")
    _check_stakes(genesis)


def _check_work(genesis: Genesis, work: NakamotoSettings) -> None:
    """Of a chain that agrees by work: what belongs to votes, and what mints for receipts, is not there."""
    consensus, params, plain = genesis.consensus, genesis.params, ConsensusSettings()
    if consensus.mode not in WORK_MODES:
        raise Rejected(Reason.BAD_GENESIS, f"`work` is for the modes pow and poa-pow, not {consensus.mode}")
    check_settings(work, mode=consensus.mode)
    if (consensus.block_time_ms, consensus.idle_ms) != (plain.block_time_ms, plain.idle_ms):
        raise Rejected(
            Reason.BAD_GENESIS, "block_time_ms and idle_ms of consensus are for votes: set those of `work`"
        )
    if genesis.authorities:
        raise Rejected(Reason.BAD_GENESIS, "authorities vote; who may author by work is in work.miners")
    if version_at(params, 0) < 2:
        raise Rejected(
            Reason.BAD_GENESIS,
            f"mode {consensus.mode} came with version 2: add activations"
            ' [{"version": 2, "height": 0}] to params',
        )
    for name in ("calibration_budget", "mint_budget_per_day", "synthetic_attester"):
        if getattr(params, name):
            raise Rejected(
                Reason.BAD_GENESIS, f"{name} is for chains whose receipts mint; this one rewards its authors"
            )
    if any(key_from_text(key)[0] != ED25519 for key in work.miners):
        raise Rejected(Reason.BAD_GENESIS, "miners sign with Ed25519")


def _check_stakes(genesis: Genesis) -> None:
    least = genesis.params.min_validator_stake
    if genesis.consensus.mode != "hybrid":
        if any(authority.stake for authority in genesis.authorities):
            raise Rejected(
                Reason.BAD_GENESIS, "authorities have one vote each here; `stake` is for mode hybrid"
            )
        return
    if version_at(genesis.params, 0) < 2:
        raise Rejected(
            Reason.BAD_GENESIS,
            'mode hybrid came with version 2: add activations [{"version": 2, "height": 0}] to params',
        )
    if any(authority.stake < least for authority in genesis.authorities):
        raise Rejected(
            Reason.BAD_GENESIS, f"in mode hybrid every authority has a `stake` of {least} base units or more"
        )


def _supply(genesis: Genesis) -> int:
    balances = sum(account.balance for account in genesis.accounts)
    return balances + sum(authority.stake for authority in genesis.authorities)


def validators_of(genesis: Genesis) -> list[Validator]:
    """The authorities in genesis order: one vote each, or under `hybrid` as many as their stake."""
    keys = [(key_from_text(authority.pubkey), authority.stake) for authority in genesis.authorities]
    return [Validator(address_of(key), key, stake or 1) for key, stake in keys]


def genesis_document(genesis: Genesis) -> bytes:
    """Its canonical bytes: every parameter of its protocol version, also those at their defaults, and no later one,
    so that a new release hashes an old chain's genesis as the old one did."""
    plain = msgspec.to_builtins(genesis)
    plain["params"] = {name: plain["params"][name] for name in names_of(genesis.params)}
    names = RHYTHM_OF_VOTES if genesis.consensus.work else ("work",)
    plain["consensus"] = {name: value for name, value in plain["consensus"].items() if name not in names}
    return jcs(plain)


def load_genesis(genesis: Genesis) -> LoadedGenesis:
    """The state before the first block, and block 0 that commits to it; the same for everybody."""
    document = genesis_document(genesis)
    genesis_hash = genesis_hash_of(document)
    state = State()
    staged = state.stage(_writes(genesis))
    state.publish()
    state.forget_journal()
    check_whole_supply(state)
    validators = validators_of(genesis)
    header = Header(
        version=version_at(genesis.params, 0),
        chain_id=genesis.chain_id,
        height=0,
        parent=ZERO_HASH,
        timestamp_ms=genesis.timestamp * 1000,
        proposer="",
        txs_root=list_root([]),
        outcomes_root=list_root([]),
        state_root=staged.root,
        next_validators_hash=validators_hash(validators),
        history_root=peaks_root([]),
        extra=genesis_hash,
        seal=b"",
    )
    block = CommittedBlock(Block(header, []), header_hash(header), [], None)
    first = Commit(block=block, changes=staged.changes, history=[], receipts=[], validators=validators)
    return LoadedGenesis(genesis, document, genesis_hash, state, first, validators)


def _writes(genesis: Genesis) -> dict[str, dict[str, Record | None]]:
    writes: dict[str, dict[str, Record | None]] = {store: {} for store in STORES}
    for account in genesis.accounts:
        auth = key_from_text(account.pubkey) if account.pubkey else b""
        writes["accounts"][account.address] = Account(account.balance, 0, auth)
    for position, validator in enumerate(validators_of(genesis)):
        writes["validators"][validator.address] = ValidatorRecord(
            auth_key=key_to_text(validator.auth_key), power=validator.power, position=position
        )
        stake = genesis.authorities[position].stake
        if stake:
            known = writes["accounts"].get(validator.address)
            balance = known.balance if isinstance(known, Account) else 0
            writes["accounts"][validator.address] = Account(balance, 0, validator.auth_key)
            writes["registry"][f"bond:validator:{validator.address}"] = Bond(
                amount=stake, unbonding=[], jailed_until_ms=0, epoch=0, minted=0
            )
    for name, text in params_to_texts(genesis.params).items():
        writes["params"][name] = Param(value=text)
    for name, value in _consensus_texts(genesis.consensus).items():
        writes["params"][f"consensus.{name}"] = Param(value=value)
    if genesis.params.mint_budget_per_day:
        writes["params"]["mint.accrued_ms"] = Param(value=str(genesis.timestamp * 1000))
    writes["params"]["supply.genesis"] = Param(value=str(_supply(genesis)))
    return writes


def _consensus_texts(consensus: ConsensusSettings) -> dict[str, str]:
    """As the params store keeps them."""
    if consensus.work is None:
        return {name: str(getattr(consensus, name)) for name in ("mode", *RHYTHM_OF_VOTES, "epoch_length")}
    work = jcs(msgspec.to_builtins(consensus.work)).decode()
    return {"mode": consensus.mode, "epoch_length": str(consensus.epoch_length), "work": work}
