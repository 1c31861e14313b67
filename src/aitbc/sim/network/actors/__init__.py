"""Bad actors of the network, one file each. They have keys and addresses like everybody, and no shame."""

from aitbc.core.peer.kinds import KINDS
from aitbc.sim.network.actors.eclipse import Eclipse
from aitbc.sim.network.actors.flood import Flood
from aitbc.sim.network.actors.liar import Liar
from aitbc.sim.network.actors.stranger import Stranger

ACTORS: dict[str, type[Stranger]] = {
    **{f"liar {kind.name}": Liar for kind in KINDS},
    **{f"flood {kind.name}": Flood for kind in KINDS},
    "eclipse": Eclipse,
}
"""`liar` and `flood` alone stand for all kinds at once."""
ATTACKS = ("liar", "flood", "eclipse", *(name for name in ACTORS if name != "eclipse"))
