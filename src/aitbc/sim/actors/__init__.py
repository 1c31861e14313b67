"""Bad actors, one file each. Every one has a validator's key, and all together less than a third of the power."""

from aitbc.sim.actors.bad_root import BadRootLeader
from aitbc.sim.actors.body_swapper import BodySwapper
from aitbc.sim.actors.deserter import Deserter
from aitbc.sim.actors.equivocator import Equivocator
from aitbc.sim.actors.hoarder import CertificateHoarder
from aitbc.sim.actors.invalid_receipt import InvalidReceiptLeader
from aitbc.sim.actors.invalid_transaction import InvalidTransactionLeader
from aitbc.sim.actors.mutator import Mutator
from aitbc.sim.actors.outdated import Outdated
from aitbc.sim.actors.oversize import OversizeLeader
from aitbc.sim.actors.repeating import RepeatingLeader
from aitbc.sim.actors.silent import Silent
from aitbc.sim.actors.stale_parent import StaleParentLeader
from aitbc.sim.actors.twins import Twin
from aitbc.sim.actors.vote_splitter import VoteSplitter
from aitbc.sim.actors.withholding import WithholdingLeader
from aitbc.sim.process import Process

ACTORS: dict[str, type[Process]] = {
    "bad_root_leader": BadRootLeader,
    "body_swapper": BodySwapper,
    "certificate_hoarder": CertificateHoarder,
    "deserter": Deserter,
    "equivocator": Equivocator,
    "invalid_receipt_leader": InvalidReceiptLeader,
    "invalid_transaction_leader": InvalidTransactionLeader,
    "mutator": Mutator,
    "outdated": Outdated,
    "oversize_leader": OversizeLeader,
    "repeating_leader": RepeatingLeader,
    "silent": Silent,
    "stale_parent_leader": StaleParentLeader,
    "twins": Twin,
    "vote_splitter": VoteSplitter,
    "withholding_leader": WithholdingLeader,
}
