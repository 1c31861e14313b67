"""Whose turn it is: the queue against a naive model, and what clients get of a busy pool."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from aitbc.core.jobs.fairness import SLICE, FairQueue, JobClass, Waiting, cost_of, weight_of_bid


def push(
    queue: "FairQueue[str]",
    client: str,
    number: int,
    *,
    units: int = 100,
    weight: int = 1_000,
    job_class: int = 1,
) -> None:
    cost = cost_of(units, weight)
    key = f"{client} {number}"
    queue.push(Waiting(key, job_class, queue.clock.stamp(client, cost), number, cost, client))


def serve(queue: "FairQueue[str]") -> str:
    first = next(queue.in_order())
    queue.took(first)
    return first.item


def jain(shares: list[Fraction]) -> Fraction:
    return sum(shares, Fraction(0)) ** 2 / (len(shares) * sum([share * share for share in shares]))


def test_who_asks_for_a_thousand_does_not_hold_up_who_asks_for_one() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(1_000):
        push(queue, "crowd", number)
    for _ in range(10):
        serve(queue)
    push(queue, "newcomer", 0)
    assert [serve(queue) for _ in range(2)].count("newcomer") == 1


def test_equal_clients_get_equal_shares_whatever_sizes_they_ask_for() -> None:
    queue: FairQueue[str] = FairQueue()
    sizes = {f"client {number}": 10 * (number + 1) for number in range(10)}
    for client, units in sizes.items():
        for number in range(2_000 // units * 10):
            push(queue, client, number, units=units)
    served = dict.fromkeys(sizes, 0)
    while sum(served.values()) < 10_000:
        client = serve(queue)
        served[client] += sizes[client]
    assert jain([Fraction(units) for units in served.values()]) > Fraction(99, 100)


def test_paying_double_gets_twice_the_share_not_the_whole_queue() -> None:
    queue: FairQueue[str] = FairQueue()
    double = weight_of_bid(price_per_kilounit=2_000, reference=1_000)
    for number in range(300):
        push(queue, "single", number)
        push(queue, "double", number, weight=double)
    served = [serve(queue) for _ in range(300)]
    assert abs(served.count("double") - 200) <= 2


def test_bids_move_a_weight_within_bounds() -> None:
    weights = [
        weight_of_bid(price_per_kilounit=price, reference=1_000) for price in (0, 500, 1_000, 3_000, 10**9)
    ]
    assert weights == [250, 500, 1_000, 3_000, 8_000]
    assert weight_of_bid(price_per_kilounit=0, reference=0) == 1_000


def test_the_lowest_class_gets_a_tenth_and_no_more() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        push(queue, "chat", number, job_class=JobClass.INTERACTIVE)
        push(queue, "night", number, job_class=JobClass.BATCH)
    served = [serve(queue) for _ in range(10 * SLICE)]
    assert served.count("night") == 10
    assert served[:SLICE] == ["chat"] * (SLICE - 1) + ["night"]


def test_an_old_share_is_not_saved_up() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(100):
        push(queue, "busy", number)
    for _ in range(50):
        serve(queue)
    for number in range(100):
        push(queue, "idle until now", number)
    assert abs([serve(queue) for _ in range(40)].count("idle until now") - 20) <= 2


def test_what_is_ahead_counts_higher_classes_and_earlier_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    push(queue, "a", 0, units=7, job_class=0)
    push(queue, "b", 0, units=5)
    push(queue, "mine", 0, units=9)
    push(queue, "batch", 0, units=100, job_class=2)
    assert queue.ahead_of("mine 0") == cost_of(7, 1_000) + cost_of(5, 1_000)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 50), st.sampled_from([500, 1_000, 4_000]), st.booleans()),
        max_size=60,
    )
)
def test_the_queue_is_a_sorted_list(steps: list[tuple[int, int, int, bool]]) -> None:
    """A slow, obvious model: everything in a list, the smallest (class, vfinish, seq) first."""
    queue: FairQueue[str] = FairQueue()
    now, last, model = 0, dict[str, int](), list[tuple[int, int, int, str, int]]()
    for number, (client_number, units, weight, take) in enumerate(steps):
        client, job_class, cost = f"c{client_number}", client_number % 3, cost_of(units, weight)
        push(queue, client, number, units=units, weight=weight, job_class=job_class)
        last[client] = max(now, last.get(client, 0)) + cost
        model.append((job_class, last[client], number, client, cost))
        if take and queue._turn % SLICE != SLICE - 1:
            job_class, vfinish, _, client, cost = first = min(model)
            model.remove(first)
            now = max(now, vfinish - cost)
            assert serve(queue) == client
    assert [waiting.seq for waiting in queue.in_order()] == [
        number
        for _, _, number, _, _ in (sorted(model) if queue._turn % SLICE != SLICE - 1 else _slice(model))
    ]


def _slice(model: list[tuple[int, int, int, str, int]]) -> list[tuple[int, int, int, str, int]]:
    lowest = max([entry[0] for entry in model], default=0)
    return sorted(model, key=lambda entry: (entry[0] != lowest, *entry))
