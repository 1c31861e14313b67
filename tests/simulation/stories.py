"""Seeds that once hurt, kept as the plans that they drew: a new draw elsewhere changes a seed's plan, and with it the
story. What happens in a run is drawn too, so where the mistake can be planted again, its plan must still find it.

`aitbc sim --seed N` no longer plays them; `play_plan` does.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from aitbc.sim.faults import Plan
from simulation.planted import Mutant

PLANS = Path(__file__).parent / "plans"


class Story(NamedTuple):
    file: str
    tells: str
    mutant: str = ""
    """The planted mistake that this plan finds; empty: what hurt was the simulator's own, or cannot be put back."""

    @property
    def plan(self) -> Plan:
        return msgspec.json.decode((PLANS / f"{self.file}.json").read_bytes(), type=Plan)


ENGINE_STORIES = [
    Story(
        "paused_twice", "a node that was paused twice must hear its signatures in the order it asked for them"
    ),
    Story(
        "lost_disk_walks_epochs",
        "who was away asks where the others are, though nobody has anything to say",
        "stand still for ever",
    ),
    Story(
        "refused_for_half_a_minute",
        "who was refused a block for half a minute must not wait half a minute for the next try",
        "ask ever later for a block",
    ),
    Story("eighty_epochs_behind", "epochs of a single block, and a node that is eighty of them behind"),
    Story(
        "guard_made_anew",
        "a guard made anew is not a guard that was always there, whatever the second restart thinks",
        "vote at once without a guard",
    ),
    Story(
        "a_log_rewritten_too_short",
        "what is live is in a log that was rewritten",
        "rewrite the log without what is live",
    ),
]

WHOLE_STORIES = [
    Story(
        "a_branch_that_lost", "a branch that has just lost must not make a node forget what is being written"
    ),
    Story("switched_off", "who is switched off takes no transactions"),
    Story("in_every_second_set", "who is in every second set only is many epochs behind when it wakes up"),
    Story("written_in_order", "blocks are told to be written in the order in which they were"),
    Story(
        "written_and_never_shown", "a block that was written and never shown is final, and known only once"
    ),
    Story(
        "old_certificates",
        "two nodes in a new epoch do not answer each other's certificates of old ones for ever; and who was asked for"
        " proofs when it died is not left alone for a minute",
    ),
    Story("a_log_with_a_block_too_large", "a log with a block that is too large is read all the same"),
    Story("another_key_while_out", "who gets another key while out of the set comes back with that one"),
    Story(
        "a_question_without_answer",
        "a slot that was notarized and skipped leaves a question nobody has to answer",
    ),
    Story(
        "the_only_copy",
        "a log is not rewritten while the only copy of a final block is in it",
        "rewrite the log before a final block is on disk",
    ),
    Story("signed_before_it_was_logged", "nothing is signed before it is in the log", "sign, then log"),
    Story("asked_once", "who gets no block asks somebody else", "ask for a block once"),
    Story(
        "pushed_out_of_a_block",
        "what an undecided block holds is not pushed out for what pays better",
        "forget what undecided blocks hold",
    ),
    Story(
        "asked_before_it_was_written",
        "a question about a block that came in a range is not waited for when a validator has deserted",
        "forget nothing when a range was written",
    ),
    Story(
        "decided_before_it_was_written",
        "a vote that waits for the log is signed, though a range makes its slot final meanwhile",
        "raise the guard's floor before its turn",
    ),
]


def plans_for(mutant: Mutant) -> list[Plan]:
    """Those that find it."""
    stories = WHOLE_STORIES if mutant.whole else ENGINE_STORIES
    return [story.plan for story in stories if story.mutant == mutant.name]
