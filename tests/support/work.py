"""Chains that agree by work, with so little of it that a test finds it at once."""

from typing import Any

import msgspec

from aitbc.client.signing import KeySigner
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.consensus.nakamoto.work import (
    is_enough,
    seal_of,
    search_digest,
    template_digest,
    work_hash,
)
from aitbc.core.ledger.genesis import ConsensusSettings, Genesis, GenesisAccount
from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings, RewardSettings
from support.chain import START_MS, VERSION_2
from support.people import ALICE, BOB, HUB

REWARD = 100 * AIT
FAST = NakamotoSettings(difficulty=4, finality_depth=6, reward=RewardSettings(initial=REWARD))


def work_genesis(
    settings: NakamotoSettings = FAST,
    *,
    miners: tuple[KeySigner, ...] = (),
    accounts: list[GenesisAccount] | None = None,
    epoch_length: int = 600,
    **params: Any,
) -> Genesis:
    """Alice and Bob have 1,000 AIT each, the hub 10; `miners`: mode poa-pow, else anybody may author."""
    funded = [(ALICE, 1_000 * AIT), (BOB, 1_000 * AIT), (HUB, 10 * AIT)]
    settings = msgspec.structs.replace(settings, miners=[key_to_text(who.auth_key) for who in miners])
    return Genesis(
        chain_id="ait-work",
        timestamp=START_MS // 1000,
        accounts=[
            GenesisAccount(address=who.address, balance=balance, pubkey=key_to_text(who.auth_key))
            for who, balance in funded
        ]
        if accounts is None
        else accounts,
        params=Params(**{"activations": VERSION_2, **params}),
        authorities=[],
        consensus=ConsensusSettings(
            mode="poa-pow" if miners else "pow", epoch_length=epoch_length, work=settings
        ),
    )


def sealed(header: Header, target: int, signer: KeySigner | None = None) -> Header:
    """With the work that it needs; signed, when a signer is given."""
    template = template_digest(header)
    signature = signer.sign(template) if signer else b""
    search, nonce = search_digest(template, signature), 0
    while not is_enough(work_hash(search, nonce), target):
        nonce += 1
    return msgspec.structs.replace(header, seal=seal_of(nonce, signature))
