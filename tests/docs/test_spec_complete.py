"""docs/spec names everything that an implementer meets: reasons, transactions, fields, parameters, routes, hashes."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.core.codec import digests
from aitbc.core.jobs import draw, link, units
from aitbc.core.jobs.lifecycle import TIMERS, TRANSITIONS, State
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.ledger.genesis import Authority, ConsensusSettings, Genesis, GenesisAccount
from aitbc.core.ledger.params import Params
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.peer.kinds import (
    KINDS,
    BlockRange,
    Blocks,
    Bye,
    Fill,
    Filled,
    Hello,
    PeerAddress,
    PeerList,
    Ping,
    RecordKey,
    Status,
    Transactions,
    Welcome,
    Wids,
)
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.peer.records import NodeRecord, RecordReason, Removal
from aitbc.core.peer.scores import POINTS
from aitbc.core.types.blocks import Candidate, Header
from aitbc.core.types.reasons import Reason
from aitbc.core.types.receipts import Attestation, ReceiptDetails
from aitbc.core.types.records import (
    STORES,
    Lock,
    ModelOffer,
    Param,
    ReceiptRecord,
    Registration,
    ValidatorRecord,
)
from aitbc.node.routes import ROUTERS

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "docs" / "spec"
CHAPTERS = sorted(path.name for path in SPEC.glob("*.md"))


def chapter(name: str) -> str:
    return (SPEC / name).read_text()


def section(text: str, heading: str) -> str:
    """From a `## heading` to the next."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no section {heading}"
    return found.group(1)


def rows(text: str) -> dict[str, str]:
    """Table rows by each name in back quotes that their first cell holds."""
    listed = {}
    for line in text.splitlines():
        if line.startswith("| "):
            for name in re.findall(r"`([^`]+)`", line.split(" |")[0]):
                listed[name] = line
    return listed


def defaults_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Fields with their default, or `...` for a field that must be there."""
    return {
        field.encode_name: field.default_factory()
        if field.default_factory is not msgspec.NODEFAULT
        else (... if field.default is msgspec.NODEFAULT else field.default)
        for field in msgspec.structs.fields(kind)
    }


def assert_table(text: str, kind: type[msgspec.Struct], *, default_cell: int) -> None:
    """Every field has its row, and the row states the field's default."""
    listed = rows(text)
    for name, default in defaults_of(kind).items():
        assert name in listed, f"{kind.__name__}.{name} has no row"
        cell = listed[name].split("|")[default_cell].strip()
        expected = "" if default is ... else f"`{json.dumps(default)}`"
        assert cell == expected, f"{kind.__name__}.{name}: default {expected}, the chapter says {cell}"


def assert_names(text: str, names: object) -> None:
    assert [name for name in list(names) if f"`{name}`" not in text] == []  # type: ignore[call-overload]


def test_every_reason_is_published_and_no_other() -> None:
    text = chapter("reasons.md")
    ledger, _, market = text.partition("## Reasons of the market")
    assert set(rows(ledger)) == {str(reason) for reason in Reason}
    assert set(rows(market)) == {str(reason) for reason in JobReason}


@pytest.mark.parametrize("name", TYPES)
def test_transaction_type_is_specified(name: str) -> None:
    assert_table(section(chapter("transactions.md"), name), TYPES[name].payload, default_cell=3)


def test_no_transaction_type_is_specified_that_does_not_exist() -> None:
    headings = re.findall(r"^## ([A-Z_]{3,})$", chapter("transactions.md"), re.M)
    assert sorted(headings) == sorted(TYPES)


def test_offers_are_specified() -> None:
    assert_table(section(chapter("transactions.md"), "REGISTER"), ModelOffer, default_cell=3)


def test_every_parameter_is_specified_with_its_default() -> None:
    assert_table(chapter("params.md"), Params, default_cell=2)
    assert set(rows(chapter("params.md"))) == set(defaults_of(Params))


def test_genesis_keys_are_specified() -> None:
    text = chapter("genesis.md")
    assert set(defaults_of(Genesis)) <= set(rows(text))
    listed = rows(text)
    for name, default in defaults_of(ConsensusSettings).items():
        assert listed[name].split("|")[2].strip() == f"`{json.dumps(default)}`"
    for kind in (GenesisAccount, Authority):
        assert all(f'"{name}"' in text for name in defaults_of(kind))


def test_receipt_fields_are_specified() -> None:
    text = chapter("receipts.md")
    assert set(defaults_of(ReceiptDetails)) <= set(rows(section(text, "Details")))
    assert_table(section(text, "Attestation"), Attestation, default_cell=3)


def test_stores_and_records_are_specified() -> None:
    text = chapter("state.md")
    order = [name for name in rows(section(text, "Stores")) if name in STORES]
    assert order == list(STORES)
    for kind in (Lock, ReceiptRecord, ValidatorRecord, Registration, Param):
        assert_names(text, defaults_of(kind))


def test_header_and_candidate_fields_are_specified_in_order() -> None:
    named = [name for name in rows(section(chapter("blocks.md"), "Header")) if name in defaults_of(Header)]
    assert named == list(defaults_of(Header))
    assert_names(chapter("finality.md"), defaults_of(Candidate))


def test_every_route_of_the_node_is_specified() -> None:
    text = chapter("rpc.md")
    routes = [
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for router in ROUTERS
        for route in router.routes
        for method in sorted(getattr(route, "methods", None) or {"WS"})
    ]
    assert len(routes) > 20
    assert_names(text, routes)


def test_every_route_of_the_hub_is_specified() -> None:
    from aitbc.hub.routes import ROUTES as listed

    assert len(listed) > 20
    assert_names(
        chapter("hub.md"), [f"{route.method} {route.path}" for route in listed] + [f"WS {link.PATH}"]
    )


def test_every_metric_of_the_hub_is_specified() -> None:
    from aitbc.hub import metrics

    listed = rows(section(chapter("hub.md"), "Metrics"))
    assert set(listed) == {*metrics.GAUGES, *metrics.BY_MODEL, *metrics.COUNTERS, *metrics.HISTOGRAMS}


def test_every_table_and_record_of_accounts_is_specified() -> None:
    from aitbc.hub.accounts.records import ApiKey, Usage

    text = chapter("accounts.md")
    for kind in (ApiKey, Usage):
        assert_names(text, defaults_of(kind))


def test_every_parameter_of_the_gateway_is_specified() -> None:
    from aitbc.hub.gateway import openai

    text = chapter("gateway.md")
    for kind in (openai.ChatRequest, openai.CompletionRequest, openai.EmbeddingRequest, openai.ImageRequest):
        assert_names(text, defaults_of(kind))


def test_every_hash_tag_is_listed() -> None:
    listed = rows(section(chapter("encoding.md"), "Fields and tagged hashes"))
    used = set()
    for path in (ROOT / "src" / "aitbc").rglob("*.py"):
        used |= set(re.findall(r'tagged\(\s*"([^"]+)"', path.read_text()))
    assert used >= {"aitbc/header/1", "aitbc/vote/1"}
    assert used - set(listed) == set()
    assert digests.__doc__


def test_every_link_message_is_specified() -> None:
    listed = rows(chapter("provider_link.md"))
    for union in (link.FromHub, link.FromProvider):
        for kind in union.__args__:
            tag = str(kind.__struct_config__.tag)
            assert tag in listed, f"no row for {tag}"
            for name in defaults_of(kind):
                assert name in listed[tag], f"{tag}.{name} is not in its row"


def test_every_profile_field_and_candidate_field_is_specified() -> None:
    text = chapter("units.md")
    for kind in (units.ChatProfile, units.ImageProfile, units.EmbeddingProfile):
        assert_names(text, defaults_of(kind))
    assert all(f'"{name}"' in chapter("draw.md") for name in defaults_of(draw.Candidate))


def test_the_job_table_is_the_codes() -> None:
    listed = rows(chapter("jobs.md"))
    for (state, event), after in TRANSITIONS.items():
        targets = [part for part in listed[state].split("|")[3].split(";") if f"`{event}`" in part]
        assert [part.split("→")[1].strip() for part in targets] == [str(after)], (state, event)
    for state, timer in TIMERS.items():
        assert f"`{timer}`" in listed[state]
    assert set(State) <= set(listed)


def test_the_index_lists_every_chapter() -> None:
    assert set(re.findall(r"\]\((\w+\.md)\)", chapter("README.md"))) == set(CHAPTERS) - {"README.md"}


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name != "README.md"])
def test_a_chapter_names_its_code_and_its_vectors(name: str) -> None:
    text = chapter(name)
    code = re.findall(r"`(src/[\w/.]+)`", text)
    assert code and "Vectors" in text[:1500]
    assert [path for path in code if not (ROOT / path).exists()] == []
    named = re.findall(r"`(\w+\.json)`", text)
    assert [file for file in named if not (ROOT / "tests" / "vectors" / file).exists()] == []


def test_every_chapter_that_the_code_cites_exists() -> None:
    cited = set()
    for path in (ROOT / "src" / "aitbc").rglob("*.py"):
        cited |= set(re.findall(r"docs/spec/(\w+\.md)", path.read_text()))
    assert cited - set(CHAPTERS) == set()


def test_every_vector_file_is_described() -> None:
    folder = ROOT / "tests" / "vectors"
    text = (folder / "README.md").read_text()
    assert_names(text, sorted(path.name for path in folder.glob("*.json")))


def test_every_metric_is_specified() -> None:
    from aitbc.node import metrics

    listed = rows(section(chapter("rpc.md"), "Metrics"))
    assert set(listed) >= {*metrics.SCALARS, *metrics.BY_VALIDATOR, *metrics.BY_LABEL, *metrics.HISTOGRAMS}


def test_what_followers_are_told_is_specified() -> None:
    from aitbc.node.subscriptions import Ended
    from aitbc.node.topics import TOPICS

    text = section(chapter("rpc.md"), "Following")
    assert_names(text, list(TOPICS))
    assert set(rows(text)) >= {"address:<ait1…>", "job:<job_id>", "hello", "subscribed", "error"}
    assert_names(text, [str(reason) for reason in Ended])


# Between nodes


def test_every_peer_reason_is_published_and_no_other() -> None:
    assert set(rows(section(chapter("p2p.md"), "Reasons"))) == {str(reason) for reason in PeerReason}


def test_every_peer_reason_has_the_points_that_are_published() -> None:
    published = {}
    for line in section(chapter("p2p.md"), "Points").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 2 and cells[1].isdecimal():
            published.update(dict.fromkeys(re.findall(r"`([^`]+)`", cells[2]), int(cells[1])))
    assert published == {str(reason): points for reason, points in POINTS.items()}


def test_every_kind_is_published_with_its_limits() -> None:
    listed = rows(section(chapter("p2p.md"), "Kinds"))
    assert {name for name in listed if ":" in name} - {"host:port"} == {kind.name for kind in KINDS}
    for kind in KINDS:
        cells = [cell.strip().replace(",", "") for cell in listed[kind.name].split("|")][1:-1]
        expected = [
            str(kind.limit),
            f"{kind.count.per_second} / {kind.count.burst}",
            f"{kind.size.per_second} / {kind.size.burst}",
        ]
        assert cells[2:5] == expected
        assert cells[6:8] == ([str(kind.answer_limit), str(kind.timeout_ms)] if kind.asks else ["", ""])
        assert cells[1] == (kind.schema.__name__ if kind.schema else "bytes" if kind.limit else "empty")
        assert cells[5] == ("" if not kind.asks else kind.answer.__name__ if kind.answer else "bytes")


@pytest.mark.parametrize(
    "record",
    [
        Hello,
        Status,
        Welcome,
        PeerAddress,
        PeerList,
        Ping,
        Bye,
        RecordKey,
        Wids,
        Transactions,
        Fill,
        Filled,
        BlockRange,
        Blocks,
    ],
)
def test_every_peer_record_is_published_in_its_order(record: type[msgspec.Struct]) -> None:
    (line,) = [
        line
        for line in section(chapter("p2p.md"), "Kinds").splitlines()
        if line.startswith(f"| {record.__name__} |")
    ]
    places = [line.index(f" {field.encode_name}") for field in msgspec.structs.fields(record)]
    assert places == sorted(places)


def test_everything_of_a_discovery_service_is_published() -> None:
    from aitbc.discovery import limits, metrics, problems, routes

    text = chapter("discovery.md")
    assert_names(section(text, "Records"), defaults_of(NodeRecord))
    assert set(defaults_of(Removal)) <= set(re.findall(r"\w+", section(text, "Records")))
    published = {name: row.split("|")[2].strip() for name, row in rows(section(text, "Reasons")).items()}
    assert published == {str(reason): str(answer.status.value) for reason, answer in problems.ANSWERS.items()}
    assert set(published) == {str(reason) for reason in RecordReason}
    assert set(rows(section(text, "Metrics"))) >= set(metrics.METRICS)
    for route in routes.ROUTES:
        for method in (route.methods or set()) - {"HEAD"}:
            assert f"`{method} {route.path}" in text
    assert f"{limits.ASKS.per_second} a second, {limits.ASKS.burst} at once" in text


def test_the_providers_metrics_log_and_routes_are_published() -> None:
    from aitbc.provider import metrics

    text = chapter("provider.md")
    listed = set(rows(section(text, "Metrics")))
    families = (metrics.GAUGES, metrics.COUNTERS, metrics.HISTOGRAMS, metrics.CARD_GAUGES)
    assert listed == {name for family in families for name in family}
    for name in ("job_id", "duration_ms", "gpu_seconds", "bytes_out", "prompt_hash", "exit_code"):
        assert name in section(text, "Files")
    assert "`GET /metrics`" in text and "`GET /v1/health`" in text
