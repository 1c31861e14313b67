"""Leads with blocks whose state root is wrong: nobody may vote for them."""

from typing import Any

import msgspec

from aitbc.core.types.blocks import ZERO_HASH
from aitbc.sim.actors.spoiling import Spoiler
from aitbc.sim.blocks import OpaqueBlock


class BadRootLeader(Spoiler):
    def spoil(self, block: Any) -> Any:
        if isinstance(block, OpaqueBlock):
            return msgspec.structs.replace(block, is_valid=False)
        header = msgspec.structs.replace(block.header, state_root=ZERO_HASH)
        return msgspec.structs.replace(block, header=header)
