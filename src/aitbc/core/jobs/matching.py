"""Who may do a part, who is likely to be drawn for it, and why not the others. docs/spec/matching.md

Hard filters first, each with a name, so that a client can be told which one removed whom. Then a table of the best
eight by weight and, for a twentieth of the wheel, of newcomers; `draw` picks from the table, and anybody can repeat it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from math import isqrt
from typing import Any

import msgspec
from sortedcontainers import SortedKeyList

from aitbc.core.jobs.draw import MAX_WEIGHT, Candidate, candidate_table
from aitbc.core.jobs.reputation import MILLION, Standing, health_ppm, reputation_ppm

BEST = 8
"""Providers in a draw: enough that nobody can steer work to himself, few enough that the good ones work."""
NEWCOMERS = 8
EXPLORATION_BP = 500
"""Newcomers together have a twentieth of the wheel: without it nobody would ever stop being one."""
LOOK_AT = 64
"""Providers that one draw looks at to find `BEST` that pass its filters, from the best down."""
MOST_CHEAPER = 4
"""Asking less than quoted weighs more, up to fourfold."""
COLD_PPM = 300_000
"""Weight of a provider that must load the model first."""
MAX_NAMED = 20
"""Providers that an explanation names for each filter; the rest is counted."""


class Filter(StrEnum):
    """What can remove a provider, in the order in which it is asked."""

    MODEL = "model"
    BANNED = "banned"
    PRICE = "price"
    VRAM = "vram"
    REGION = "region"
    POLICY = "policy"
    NOT_ALLOWED = "not_allowed"
    DENIED = "denied"
    OWN_WORK = "own_work"
    USED_BEFORE = "used_before"
    EXPOSURE = "exposure"


class Wishes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client asks of its provider beyond the model; an empty list asks nothing."""

    min_vram_mb: int = 0
    regions: list[str] = []
    policies: list[str] = []
    """Each must be among what the provider promises, such as `no-log`."""
    allow: list[str] = []
    """Only these addresses. Choosing one's provider makes its work mint nothing."""
    deny: list[str] = []

    def asks_nothing(self) -> bool:
        return self == NO_WISHES


NO_WISHES = Wishes()
MAX_WISHED = 64
"""Entries of each list of wishes."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What one part needs of a provider."""

    model: str
    price_per_kilounit: int
    """The most that may be asked."""
    client: str
    wishes: Wishes = NO_WISHES
    used: frozenset[str] = frozenset()
    """Who has had an earlier attempt."""
    price: int = 0
    """What the part costs at most: bounds what a thin stake may be given."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """A connected provider, for one of its models."""

    address: str
    model: str
    model_digest: str
    price_per_kilounit: int
    slots: int
    running: int = 0
    region: str = ""
    vram_mb: int = 0
    policies: tuple[str, ...] = ()
    warm: bool = True
    speed_ppm: int = MILLION
    """How likely it is in time: slack of a typical deadline over its typical duration, at most one."""
    standing: Standing = Standing()
    exposure: int = 2**63
    """The dearest part that its stake covers."""


def why_not(ask: Ask, facts: Facts) -> Filter | None:
    """The first filter that removes a provider; None: it may do the part."""
    wishes = ask.wishes
    if facts.model != ask.model:
        return Filter.MODEL
    if facts.standing.banned:
        return Filter.BANNED
    if facts.price_per_kilounit > ask.price_per_kilounit:
        return Filter.PRICE
    if wishes is not NO_WISHES:
        refusal = _wished_away(wishes, facts)
        if refusal is not None:
            return refusal
    if facts.address == ask.client:
        return Filter.OWN_WORK
    if facts.address in ask.used:
        return Filter.USED_BEFORE
    if ask.price > facts.exposure:
        return Filter.EXPOSURE
    return None


def _wished_away(wishes: Wishes, facts: Facts) -> Filter | None:
    if facts.vram_mb < wishes.min_vram_mb:
        return Filter.VRAM
    if wishes.regions and facts.region not in wishes.regions:
        return Filter.REGION
    if not set(wishes.policies) <= set(facts.policies):
        return Filter.POLICY
    if wishes.allow and facts.address not in wishes.allow:
        return Filter.NOT_ALLOWED
    if facts.address in wishes.deny:
        return Filter.DENIED
    return None


# the wheel


def quality_ppm(facts: Facts, *, now_ms: int) -> int:
    """rep · health · speed · warmth · √(1 − load), in millionths; at least one."""
    value = reputation_ppm(facts.standing) * health_ppm(facts.standing, now_ms=now_ms) // MILLION
    value = value * facts.speed_ppm // MILLION
    if not facts.warm:
        value = value * COLD_PPM // MILLION
    free = MILLION * max(0, facts.slots - facts.running) // max(1, facts.slots)
    return max(1, value * isqrt(free * MILLION) // MILLION)


def weight_on_wheel(facts: Facts, *, quoted_per_kilounit: int, quality: int) -> int:
    """Cheaper than quoted weighs more, up to fourfold; between 1 and 1,000,000."""
    cheaper = 1_000 * quoted_per_kilounit // max(1, facts.price_per_kilounit)
    bounded = min(max(cheaper, 1_000), MOST_CHEAPER * 1_000)
    return min(max(1, bounded * quality // (MOST_CHEAPER * 1_000)), MAX_WEIGHT)


class ProviderIndex:
    """The providers of one model that have a free slot, best first, newcomers apart."""

    def __init__(self) -> None:
        self._facts: dict[str, tuple[Facts, int, int]] = {}
        self._known: SortedKeyList[tuple[int, str]] = SortedKeyList(key=lambda pair: (-pair[0], pair[1]))
        self._new: SortedKeyList[tuple[int, str]] = SortedKeyList(key=lambda pair: (-pair[0], pair[1]))

    def __len__(self) -> int:
        return len(self._facts)

    def put(self, facts: Facts, *, now_ms: int) -> None:
        """Add a provider or change what is known of it."""
        self.remove(facts.address)
        quality = quality_ppm(facts, now_ms=now_ms)
        rank = weight_on_wheel(facts, quoted_per_kilounit=_RANKED_AT, quality=quality)
        self._facts[facts.address] = (facts, quality, rank)
        self._side(facts).add((rank, facts.address))

    def remove(self, address: str) -> None:
        entry = self._facts.pop(address, None)
        if entry is not None:
            self._side(entry[0]).remove((entry[2], address))

    def _side(self, facts: Facts) -> "SortedKeyList[tuple[int, str]]":
        return self._new if facts.standing.newcomer else self._known

    def table(self, ask: Ask) -> list[Candidate]:
        """The draw's table: the best who may, and newcomers with their share; empty when nobody may."""
        known = list(self._pick(self._known, ask, BEST))
        new = list(self._pick(self._new, ask, NEWCOMERS))
        best = [_candidate(facts, ask, quality) for facts, quality in known]
        tried = [_candidate(facts, ask, quality) for facts, quality in new]
        if best and tried:
            tried = _with_share(tried, sum([candidate.weight for candidate in best]))
        return candidate_table(best + tried)

    def _pick(
        self, side: "SortedKeyList[tuple[int, str]]", ask: Ask, most: int
    ) -> Iterator[tuple[Facts, int]]:
        found = 0
        for looked, (_, address) in enumerate(side):
            if found == most or (looked >= LOOK_AT and found):
                return
            facts, quality, _ = self._facts[address]
            if why_not(ask, facts) is None:
                found += 1
                yield facts, quality

    def next_after(self, ask: Ask, last: str) -> list[Candidate]:
        """Round robin, the seed's rule: the first by address after the last one that was given work."""
        may = sorted([address for address, (facts, *_) in self._facts.items() if why_not(ask, facts) is None])
        if not may:
            return []
        address = next((address for address in may if address > last), may[0])
        facts, quality, _ = self._facts[address]
        return [_candidate(facts, ask, quality)]


_RANKED_AT = 1_000_000
"""For the order in the index a price is compared with this one, for the weight with the quoted one."""


def _candidate(facts: Facts, ask: Ask, quality: int) -> Candidate:
    return Candidate(
        address=facts.address,
        weight=weight_on_wheel(facts, quoted_per_kilounit=ask.price_per_kilounit, quality=quality),
        price_per_kilounit=facts.price_per_kilounit,
        model_digest=facts.model_digest,
    )


def _with_share(tried: list[Candidate], best: int) -> list[Candidate]:
    """Newcomers in their proportions, together a twentieth of the wheel."""
    total = sum([candidate.weight for candidate in tried])
    whole = best * EXPLORATION_BP // (10_000 - EXPLORATION_BP)
    return [
        msgspec.structs.replace(candidate, weight=min(max(1, whole * candidate.weight // total), MAX_WEIGHT))
        for candidate in tried
    ]


# saying why


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a part can be done or not, and by whom."""

    feasible: bool
    connected: int
    able: int
    """Pass every filter, busy or not."""
    free: int
    """Of those, have a slot now."""
    removed: dict[str, int]
    """By filter, how many it removed; each provider counts for the first that does."""
    named: dict[str, list[str]]
    """By filter, some of them."""
    nearest: dict[str, Any]
    """What to ask instead, by field: each alone would find somebody; empty when nothing single would."""
    wait_ms: int | None
    """Expected wait until somebody is free; None when nobody ever will be."""


def explain(
    ask: Ask, everybody: Sequence[Facts], *, units_ahead: int, units: int, units_per_s: int = 1_000
) -> Explanation:
    """Which filter removed which providers, the nearest request that would fit, and the wait.

    `units_per_s`: what one slot does; a reference card does 1,000.
    """
    verdicts = [(facts, why_not(ask, facts)) for facts in everybody]
    able = [facts for facts, refusal in verdicts if refusal is None]
    removed = Counter([str(refusal) for _, refusal in verdicts if refusal is not None])
    named: dict[str, list[str]] = {}
    for facts, refusal in verdicts:
        if refusal is not None and len(named.setdefault(str(refusal), [])) < MAX_NAMED:
            named[str(refusal)].append(facts.address)
    free = sum([facts.running < facts.slots for facts in able])
    return Explanation(
        feasible=bool(able),
        connected=len(everybody),
        able=len(able),
        free=free,
        removed=dict(sorted(removed.items())),
        named=dict(sorted(named.items())),
        nearest={} if able else _nearest(ask, everybody),
        wait_ms=_wait_ms(able, units_ahead, units, units_per_s) if able else None,
    )


def _wait_ms(able: Sequence[Facts], units_ahead: int, units: int, units_per_s: int) -> int:
    """What is ahead, shared among all slots; nothing when a slot is free and nobody is before."""
    slots = sum([facts.slots for facts in able])
    if not units_ahead and any(facts.running < facts.slots for facts in able):
        return 0
    return 1_000 * (units_ahead + units) // max(1, slots * units_per_s)


def _nearest(ask: Ask, everybody: Iterable[Facts]) -> dict[str, Any]:
    """For each wish that stands alone in somebody's way: what to ask instead of it."""
    nearest: dict[str, Any] = {}
    for facts in everybody:
        first = why_not(ask, facts)
        loose, field, value = _loosened(ask, facts, first)
        if loose is None or why_not(loose, facts) is not None:
            continue
        known = nearest.get(field)
        if isinstance(value, int):
            lower = field == "price_per_kilounit"
            nearest[field] = value if known is None else (min if lower else max)(known, value)
        else:
            nearest[field] = sorted({*(known or []), value})[:MAX_NAMED]
    return nearest


def _loosened(ask: Ask, facts: Facts, refusal: Filter | None) -> tuple[Ask | None, str, Any]:
    """The ask without the wish that a provider fails; None where asking otherwise does not help."""
    change = msgspec.structs.replace
    wishes = ask.wishes
    match refusal:
        case Filter.MODEL:
            return change(ask, model=facts.model), "model", facts.model
        case Filter.PRICE:
            return (
                change(ask, price_per_kilounit=facts.price_per_kilounit),
                "price_per_kilounit",
                facts.price_per_kilounit,
            )
        case Filter.VRAM:
            return change(ask, wishes=change(wishes, min_vram_mb=facts.vram_mb)), "min_vram_mb", facts.vram_mb
        case Filter.REGION:
            return change(ask, wishes=change(wishes, regions=[])), "regions", facts.region
        case Filter.POLICY:
            kept = [policy for policy in wishes.policies if policy in facts.policies]
            missing = sorted(set(wishes.policies) - set(kept))
            return change(ask, wishes=change(wishes, policies=kept)), "without_policies", ", ".join(missing)
        case Filter.NOT_ALLOWED:
            return change(ask, wishes=change(wishes, allow=[])), "allow", facts.address
        case Filter.DENIED:
            return change(ask, wishes=change(wishes, deny=[])), "deny_without", facts.address
        case Filter.EXPOSURE:
            return change(ask, price=facts.exposure), "price", facts.exposure
        case Filter.BANNED | Filter.OWN_WORK | Filter.USED_BEFORE | None:
            return None, "", None
