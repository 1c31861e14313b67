"""What nodes and strangers get from a discovery service over HTTP."""

import asyncio
from pathlib import Path

import pytest

from aitbc.core.codec.canonical import jcs
from aitbc.core.peer.directory import RECHECK_MS
from aitbc.core.peer.records import (
    MAX_LIFE_MS,
    MAX_RECORD_BYTES,
    MAX_SAMPLE,
    MAX_SKEW_MS,
    Endpoint,
    RecordReason,
    sign_record,
)
from aitbc.discovery import service as service_module
from aitbc.discovery.limits import CHANGES
from aitbc.discovery.problems import ANSWERS
from aitbc.discovery.store import RowStore
from aitbc.ports import StorageError
from support.listed_nodes import CHAIN, GENESIS, HOUR_MS, NOW_MS, ListedNode

from .conftest import World

ANN, BEN, EVE = ListedNode(1), ListedNode(2), ListedNode(3)


def test_a_node_publishes_is_told_to_others_and_leaves(world: World) -> None:
    world.start(ANN)
    status, answer = world.put(ANN.signed())
    assert (status, answer["answered"], answer["checked_ms"]) == (200, 0, NOW_MS)
    (item,) = world.sample()
    assert item["record"]["endpoints"] == [{"host": "8.0.1.1", "port": 7070}]
    assert item["sig"] == ANN.signed().sig
    assert world.sample(chain="another") == []
    assert world.http.get("/v1/health").json()["listed"] == 1
    assert world.remove(ANN.removal(NOW_MS + 1)) == (200, "removed")
    assert world.sample() == []


def test_a_restart_keeps_the_list_and_the_numbers_of_what_was_removed(world: World) -> None:
    for node in (ANN, BEN):
        world.start(node)
        assert world.publish(node) == (200, "listed")
    world.remove(BEN.removal(NOW_MS + 1))
    world.close()
    world.open()
    assert world.listed() == {ANN.node_key}
    assert world.publish(BEN, NOW_MS) == (409, "stale_sequence")


def test_attack_a_replayed_older_record(world: World) -> None:
    world.start(ANN)
    world.publish(ANN, NOW_MS - 1)
    world.publish(ANN, NOW_MS)
    assert world.publish(ANN, NOW_MS - 1) == (409, "stale_sequence")
    assert world.publish(ANN, NOW_MS) == (409, "stale_sequence")
    assert len(world.called) == 2, "who sends old records has nobody called"


def test_attack_somebody_elses_update_and_removal(world: World) -> None:
    for node in (ANN, EVE):
        world.start(node)
    world.publish(ANN)
    stolen = sign_record(ANN.record(NOW_MS + 1, record_key=EVE.record_key), EVE.seed)
    status, answer = world.put(stolen)
    assert (status, answer["code"]) == (403, "not_owner")
    assert "wait" in answer["fix"]
    forged = sign_record(ANN.record(NOW_MS + 1), EVE.seed)
    assert world.put(forged)[1]["code"] == "record_forged"
    status, answer = world.put(EVE.signed(), id=ANN.node_key)
    assert (status, answer["code"]) == (400, "wrong_id")
    assert world.remove(EVE.removal(NOW_MS + 1)) == (404, "unknown_node")
    assert world.listed() == {ANN.node_key}


def test_attack_a_name_cannot_be_squatted_before_its_owner_comes(world: World) -> None:
    """Eve claims Ann's node key, at Ann's address and at her own; Ann's node names Ann's record key only."""
    world.start(ANN)
    claim = sign_record(ANN.record(record_key=EVE.record_key), EVE.seed)
    assert world.put(claim)[1]["code"] == "not_vouched"
    at_eves = ANN.record(record_key=EVE.record_key, endpoints=[EVE.endpoint])
    assert world.put(sign_record(at_eves, EVE.seed))[1]["code"] == "node_unreachable"
    assert world.publish(ANN, NOW_MS - 1) == (200, "listed")


def test_attack_expired_and_future_records(world: World) -> None:
    world.start(ANN)
    assert world.publish(ANN, NOW_MS - HOUR_MS)[1] == "record_expired"
    assert world.publish(ANN, NOW_MS + MAX_SKEW_MS + 1)[1] == "record_from_future"
    assert world.publish(ANN, expires_ms=NOW_MS + MAX_LIFE_MS + 1)[1] == "record_lives_too_long"
    world.publish(ANN)
    world.later(HOUR_MS)
    assert world.sample() == []


def test_attack_an_oversized_body_is_not_read_to_its_end(world: World) -> None:
    answer = world.http.put(f"/v1/nodes/{ANN.node_key}", content=b" " * (MAX_RECORD_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    answer = world.http.put(f"/v1/nodes/{ANN.node_key}", content=b"[" * MAX_RECORD_BYTES)
    assert answer.status_code == 400


def test_attack_a_flood_from_one_address_is_refused_and_others_are_served(world: World) -> None:
    codes = [world.publish(EVE)[1] for _ in range(CHANGES.burst + 5)]
    assert codes[-5:] == ["asked_too_often"] * 5
    world.start(ANN)
    world.http._transport.client = ("9.9.9.9", 1)  # type: ignore[attr-defined]
    assert world.publish(ANN) == (200, "listed")
    world.http._transport.client = ("8.8.4.4", 1)  # type: ignore[attr-defined]
    world.later(1_000)
    assert world.publish(ANN, NOW_MS)[1] == "stale_sequence", "a second later it is heard again"
    metrics = world.http.get("/v1/metrics").text
    asked = len(codes) - codes.count("node_unreachable")
    assert f'discovery_requests_total{{outcome="asked_too_often",what="publish"}} {asked}.0' in metrics


def test_attack_one_record_key_cannot_have_many_calls_made(world: World) -> None:
    world.start(ANN)
    codes = [world.publish(ANN, NOW_MS + number)[1] for number in range(4)]
    assert codes == ["listed"] * 3 + ["asked_too_often"]


def test_attack_many_made_up_nodes_cannot_have_one_address_hammered(world: World) -> None:
    target = ListedNode(9, "7.7.7.7:80").endpoint
    for number in range(20):
        world.later(1_000)
        world.publish(ListedNode(100 + number), endpoints=[target])
    assert len(world.called) == 8 + 9, "eight at once, then one each two seconds"


def test_attack_private_addresses_are_never_dialled(world: World) -> None:
    for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"):
        status, code = world.publish(ANN, endpoints=[Endpoint(host=host, port=80)])
        assert (status, code) == (400, "private_endpoint")
    assert world.publish(ANN, endpoints=[Endpoint(host="localhost", port=80)])[1] == "bad_endpoint"
    assert world.called == []


def test_a_silent_node_is_told_no_more_until_it_answers_again(world: World) -> None:
    world.start(ANN)
    world.publish(ANN)
    del world.there[ANN.endpoint.where]
    world.later(RECHECK_MS)
    asyncio.run(world.service.sweep())
    assert world.sample() == []
    world.start(ANN)
    world.later(RECHECK_MS)
    asyncio.run(world.service.sweep())
    assert world.listed() == {ANN.node_key}
    world.later(MAX_LIFE_MS)
    asyncio.run(world.service.sweep())
    assert len(world.service.directory) == 0
    world.close()
    store = RowStore(world.path)
    assert store.load() == []
    store.close()
    world.open()


def test_the_second_endpoint_of_who_is_listed_is_tried_when_the_first_is_silent(world: World) -> None:
    world.start(ANN)
    two = [EVE.endpoint, ANN.endpoint]
    assert world.put(ANN.signed(endpoints=two))[0] == 422
    assert world.called == [EVE.endpoint.where], "a newcomer is called at its first endpoint only"
    assert world.publish(ANN, NOW_MS + 1) == (200, "listed")
    status, answer = world.put(ANN.signed(NOW_MS + 2, endpoints=two))
    assert (status, answer["answered"]) == (200, 1)


def test_attack_a_few_addresses_cannot_take_all_places_of_newcomers(world: World) -> None:
    """Mallory's records name endpoints that never answer; Ann is listed and renews, Ben is new."""

    async def story() -> list[str]:
        world.start(ANN)
        world.start(BEN)
        await world.service.publish(ANN.node_key, jcs(ANN.signed()), asker="9.1.1.9")
        hang = asyncio.Event()
        world.on_call = hang.wait  # type: ignore[assignment]
        records = [ListedNode(number) for number in range(300, 308)]
        flood = [
            asyncio.create_task(world.service.publish(one.node_key, jcs(one.signed()), asker="6.6.6.6"))
            for one in records
        ]
        await asyncio.sleep(0)
        world.on_call = None
        assert await world.service.publish(BEN.node_key, jcs(BEN.signed()), asker="9.1.2.9")
        hang.set()
        ended = await asyncio.gather(*flood, return_exceptions=True)
        return [str(getattr(error, "reason", error)) for error in ended]

    assert asyncio.run(story()) == ["node_unreachable"] * 2 + ["too_many_checks"] * 6


def test_attack_newcomers_who_never_answer_do_not_hold_up_who_is_listed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_WAITING", 1)
    monkeypatch.setattr(world.service, "_turn", asyncio.Semaphore(1))

    async def story() -> None:
        world.start(ANN)
        await world.service.publish(ANN.node_key, jcs(ANN.signed()), asker="9.1.1.9")
        hang = asyncio.Event()
        world.on_call = hang.wait  # type: ignore[assignment]
        slow = asyncio.create_task(world.service.publish(EVE.node_key, jcs(EVE.signed()), asker="6.6.6.6"))
        await asyncio.sleep(0)
        world.on_call = None
        row = await world.service.publish(ANN.node_key, jcs(ANN.signed(NOW_MS + 1)), asker="9.1.1.9")
        assert row.sequence == NOW_MS + 1
        hang.set()
        await asyncio.gather(slow, return_exceptions=True)

    asyncio.run(story())


def test_attack_a_record_that_overtakes_another_during_its_call_is_not_taken_back(world: World) -> None:
    """While the service calls Ann for number 1, her number 2 is listed."""
    world.start(ANN)

    async def overtake() -> None:
        world.on_call = None
        await world.service.publish(ANN.node_key, jcs(ANN.signed(NOW_MS + 2)), asker="9.9.9.9")

    world.on_call = overtake
    assert world.publish(ANN, NOW_MS + 1) == (409, "stale_sequence")
    assert world.sample()[0]["record"]["sequence"] == NOW_MS + 2


def test_attack_endpoints_that_never_answer_do_not_keep_others_out_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_WAITING", 2)

    async def story() -> tuple[list[BaseException | object], object]:
        hang = asyncio.Event()
        world.on_call = hang.wait  # type: ignore[assignment]
        slow = [
            asyncio.create_task(
                world.service.publish(node.node_key, jcs(node.signed()), asker=f"9.9.{number}.9")
            )
            for number, node in enumerate([ListedNode(30), ListedNode(31), ListedNode(32)])
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hang.set()
        ended = await asyncio.gather(*slow, return_exceptions=True)
        world.on_call = None
        world.start(ANN)
        return ended, await world.service.publish(ANN.node_key, jcs(ANN.signed()), asker="9.1.1.9")

    ended, row = asyncio.run(story())
    reasons = [str(getattr(error, "reason", "")) for error in ended]
    assert reasons == ["node_unreachable", "node_unreachable", "too_many_checks"]
    assert row


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "out_of_range"),
        ({"limit": str(MAX_SAMPLE + 1)}, "out_of_range"),
        ({"limit": "all"}, "out_of_range"),
        ({"genesis": ""}, "missing_field"),
    ],
)
def test_a_question_of_the_wrong_form(world: World, query: dict[str, str], code: str) -> None:
    answer = world.http.get("/v1/nodes", params={"chain": CHAIN, "genesis": GENESIS, **query})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_an_unknown_route_is_named(world: World) -> None:
    for method, path, status in (("GET", "/docs", 404), ("POST", "/v1/nodes", 405)):
        answer = world.http.request(method, path)
        assert answer.status_code == status
        assert "docs/spec/discovery.md" in answer.json()["fix"]


def test_a_second_service_on_the_same_folder_is_told(world: World) -> None:
    with pytest.raises(StorageError, match="another discovery service"):
        RowStore(world.path)


def test_a_damaged_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "discovery.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match="move it away"):
        RowStore(tmp_path / "discovery.db")


def test_every_reason_has_an_answer() -> None:
    assert set(ANSWERS) == set(RecordReason)
