"""Put a discovery-only node together: the lister, and HTTP for probes and figures. docs/spec/rpc.md "Discovery
only" """

import contextlib
from collections.abc import AsyncIterator, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aitbc import __version__
from aitbc.adapters.http.problems import Problem, on_bug, problem_response
from aitbc.adapters.network.node_key import load_or_create_node_key
from aitbc.adapters.network.tcp import TcpTransport
from aitbc.core.ledger.genesis import LoadedGenesis, load_genesis, parse_genesis
from aitbc.core.peer.handshake import prologue_of
from aitbc.core.peer.kinds import Status
from aitbc.core.peer.peers import DISCOVERY, ConfiguredPeer, PeerSettings
from aitbc.node.book import BookKeeper
from aitbc.node.config import NodeConfig
from aitbc.node.finder import Finder, Identity
from aitbc.node.folder import NODE_KEY_FILE, FolderLock
from aitbc.node.lister import Lister
from aitbc.node.metrics import ADDRESSES, INFO, REFUSED_BY_NETWORK
from aitbc.ports import Clock

if TYPE_CHECKING:
    from prometheus_client import Metric

Json = dict[str, Any]


class OpenLister(NamedTuple):
    """A folder that this process holds, and the network that is listed."""

    lock: FolderLock
    genesis: LoadedGenesis

    def close(self) -> None:
        self.lock.release()


def open_lister(config: NodeConfig) -> OpenLister:
    """Raises StorageError, or Rejected for a genesis document that is not one, with what to do."""
    genesis = load_genesis(parse_genesis(config.genesis))
    return OpenLister(FolderLock(config.data), genesis)


def lister_of(config: NodeConfig, loaded: LoadedGenesis, clock: Clock) -> tuple[Lister, Finder]:
    chain_id = loaded.genesis.chain_id
    static = load_or_create_node_key(config.data / NODE_KEY_FILE)
    transport = TcpTransport(
        static=static,
        prologue=prologue_of(chain_id=chain_id, genesis_hash=loaded.hash),
        listen=None if config.p2p_port is None else (config.p2p_host, config.p2p_port),
    )
    lister = Lister(
        transport=transport,
        settings=PeerSettings(
            key=transport.key,
            settings_hash=loaded.hash,
            agent=f"aitbc/{__version__}",
            features=(DISCOVERY,),
            bootstrap=config.bootstrap,
            lists_only=True,
        ),
        status=Status(0, loaded.block.hash, 0),
        clock=clock,
        book=BookKeeper(config.data),
        configured=[ConfiguredPeer(where) for where in config.peers],
    )
    identity = Identity(
        chain_id=chain_id,
        genesis_hash=loaded.hash.hex(),
        static=static,
        endpoint=None,
        agent=f"aitbc/{__version__}",
    )
    return lister, Finder(config.discovery, network=lister, identity=identity, clock=clock)


def create_lister_app(config: NodeConfig, opened: OpenLister, clock: Clock) -> Starlette:
    """`app.state.program` is the lister once it has started."""
    chain_id = opened.genesis.genesis.chain_id

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        lister, finder = lister_of(config, opened.genesis, clock)
        app.state.program = lister
        await lister.start()
        finder.start()
        try:
            yield
        finally:
            await finder.stop()
            await lister.stop()
            opened.close()

    async def health(request: Request) -> Response:
        lister: Lister = request.app.state.program
        known, answering = lister.known
        stopped = lister.stopped.is_set()
        body = {
            "status": "stopped" if stopped else "ok",
            "role": DISCOVERY,
            "chainId": chain_id,
            "addresses": known,
            "answering": answering,
        }
        return JSONResponse(body, status_code=503 if stopped else 200)

    async def live(request: Request) -> Response:
        stopped = request.app.state.program.stopped.is_set()
        return JSONResponse({"live": not stopped}, status_code=503 if stopped else 200)

    async def ready(request: Request) -> Response:
        stopped = request.app.state.program.stopped.is_set()
        body = {"ready": not stopped, "why": "stopped" if stopped else ""}
        return JSONResponse(body, status_code=503 if stopped else 200)

    async def metrics(request: Request) -> Response:
        body, media_type = exposition(request.app.state.program, chain_id)
        return Response(body, media_type=media_type)

    async def unknown(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = "this node is for discovery only: it has no chain"
        fix = "ask another node; this one answers /health, /metrics and the peer-to-peer protocol"
        return problem_response(Problem(HTTPStatus(error.status_code), "discovery_only", detail, fix))

    return Starlette(
        routes=[
            Route("/health", health),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
            Route("/rpc/metrics", metrics),
        ],
        exception_handlers={HTTPException: unknown, Exception: on_bug},
        lifespan=lifespan,
    )


class _Collector:
    def __init__(self, lister: Lister, chain_id: str) -> None:
        self._lister, self._chain_id = lister, chain_id

    def collect(self) -> Iterable["Metric"]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        info = GaugeMetricFamily(*INFO, labels=["version", "chain_id", "role"])
        info.add_metric([__version__, self._chain_id, DISCOVERY], 1)
        yield info
        known, answering = self._lister.known
        addresses = GaugeMetricFamily(*ADDRESSES, labels=["state"])
        addresses.add_metric(["known"], known)
        addresses.add_metric(["answering"], answering)
        yield addresses
        refused = CounterMetricFamily(*REFUSED_BY_NETWORK, labels=["reason"])
        for reason, count in self._lister.refused.items():
            refused.add_metric([reason], count)
        yield refused


def exposition(lister: Lister, chain_id: str) -> tuple[bytes, str]:
    """Text format and its media type; prometheus_client is imported at the first scrape."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Collector(lister, chain_id))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST
