"""Put a node together and run it until it is told to stop."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from aitbc import __version__
from aitbc.adapters import loop
from aitbc.adapters.agreement.key_lock import KeyLock
from aitbc.adapters.http.cors import Cors
from aitbc.adapters.http.hot import HotApp
from aitbc.adapters.http.problems import (
    Problem,
    on_bug,
    on_http_error,
    on_problem,
    on_rejection,
    on_storage_error,
    on_wrong_parameters,
)
from aitbc.adapters.network.node_key import load_or_create_node_key
from aitbc.adapters.network.tcp import TcpTransport
from aitbc.adapters.storage.opening import open_store, sqlite_path
from aitbc.adapters.storage.rows import MEND
from aitbc.adapters.telemetry.tracing import tracer_provider
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import genesis_document, parse_genesis
from aitbc.core.ledger.validators import validators_of
from aitbc.core.peer.handshake import prologue_of
from aitbc.core.peer.kinds import Status
from aitbc.core.peer.peers import ARCHIVE, VOTES, ConfiguredPeer, PeerSettings
from aitbc.core.peer.records import record_key_of
from aitbc.core.switching import work_settings
from aitbc.core.types.reasons import Rejected, Stops
from aitbc.node.access import check_exposure, guarded_ports
from aitbc.node.agreement import GUARD_FILE, Scribe, open_remote_scribe, open_scribe
from aitbc.node.beginning import check_beginning
from aitbc.node.book import BookKeeper
from aitbc.node.config import NodeConfig
from aitbc.node.finder import Finder, Identity
from aitbc.node.folder import DATABASE_FILE, NODE_KEY_FILE, FolderLock
from aitbc.node.limits import Limits
from aitbc.node.lister_app import OpenLister, create_lister_app, open_lister
from aitbc.node.network import NodeNetwork, PeerNetwork
from aitbc.node.roles import ARCHIVE as KEEPS_ALL
from aitbc.node.roles import DISCOVERY
from aitbc.node.routes import HOT, MAX_FRAMES, ROUTERS
from aitbc.node.routes.follow import MAX_ORDER_BYTES, PING_S, PONG_S
from aitbc.node.routes.openapi import describe
from aitbc.node.runtime import NodeRuntime, SystemClock
from aitbc.node.service import NodeService
from aitbc.node.work_network import WorkNetwork
from aitbc.node.work_runtime import Author, WorkRuntime, check_author
from aitbc.ports import Signer, StorageError, Store, TransactionSigner

log = logging.getLogger("aitbc.node")


def open_chain(config: NodeConfig) -> tuple[Executor, Store]:
    """The chain in the data folder or in the database that is named, begun from its genesis if that is empty.

    Raises StorageError, or Rejected for a genesis document that is not one, with what to do.
    """
    genesis = parse_genesis(config.genesis)
    check_exposure(config, devnet=bool(genesis.params.devnet))
    check_beginning(genesis, now_ms=SystemClock().now_ms())
    genesis_hash = genesis_hash_of(genesis_document(genesis))
    store = open_store(config.database, default=config.data / DATABASE_FILE, genesis_hash=genesis_hash)
    try:
        return _begin(config, store), store
    except BaseException:
        store.close()
        raise


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """While a state is loaded nothing of it is garbage, and looking for some costs a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _begin(config: NodeConfig, store: Store) -> Executor:
    try:
        with collector_paused():
            stored = store.load()
            executor = Executor(config.genesis, stored)
    except Rejected as error:
        raise StorageError(f"the stored chain is damaged ({error.message}); {MEND}") from None
    if stored is None:
        store.commit(executor.loaded.first)
    return executor


class OpenNode(NamedTuple):
    """A chain that this process holds."""

    locks: list[FolderLock | KeyLock]
    executor: Executor
    store: Store
    scribe: Scribe | None
    """For a node with a validator's key."""

    def close(self) -> None:
        if self.scribe is not None:
            self.scribe.close()
        self.store.close()
        for lock in self.locks:
            lock.release()


def open_node(config: NodeConfig) -> OpenNode:
    """Take the folder, and the database's where it is another, and open the chain; raises StorageError or Rejected
    with what to do."""
    file = sqlite_path(config.database, default=config.data / DATABASE_FILE)
    folders = {config.data.resolve(), file.parent.resolve() if file else config.data.resolve()}
    locks: list[FolderLock | KeyLock] = []
    try:
        locks.extend(FolderLock(folder) for folder in sorted(folders))
        executor, store = open_chain(config)
        try:
            if work_settings(executor) is not None:
                _author(config, executor)
            if config.proposer_file is not None and work_settings(executor) is None:
                locks.append(_locked(config.proposer_file))
            return OpenNode(locks, executor, store, _open_scribe(config, executor))
        except BaseException:
            store.close()
            raise
    except BaseException:
        for lock in locks:
            lock.release()
        raise


def _locked(key: Path) -> KeyLock:
    try:
        return KeyLock(key)
    except (OSError, Stops) as error:
        raise StorageError(str(error)) from None


def _open_scribe(config: NodeConfig, executor: Executor) -> Scribe | None:
    """Log and guard of a validator; raises StorageError when its files cannot be used."""
    if (config.proposer is None and config.signer is None) or work_settings(executor) is not None:
        return None
    try:
        scribe = _scribe_of(config, executor)
    except (OSError, Stops) as error:
        raise StorageError(str(error)) from None
    if not config.talks:
        try:
            _check_lone_author(scribe.transactions, executor)
        except StorageError:
            scribe.close()
            raise
    if scribe.vote_after_ms > 0:
        log.warning(
            "log or guard were lost, or never there: this validator watches until an epoch begins in which it cannot"
            " have voted (a key that has never voted starts once with --never-voted)",
            extra={"component": "consensus", "event": "watching"},
        )
    return scribe


def _scribe_of(config: NodeConfig, executor: Executor) -> Scribe:
    genesis_hash = executor.loaded.hash
    now_ms = max(SystemClock().now_ms(), executor.head.block.header.timestamp_ms)  # this clock may be behind
    if config.signer is not None:
        return open_remote_scribe(config.data, socket=config.signer, genesis_hash=genesis_hash, now_ms=now_ms)
    assert config.proposer is not None, "the caller has looked"
    if not config.talks:
        _check_lone_author(config.proposer, executor)
    has_guard = (config.data / GUARD_FILE).exists()
    if not has_guard and not config.never_voted and len(validators_of(executor.state)) == 1:
        raise StorageError(
            f"{config.data} has no signer guard: if this key has never voted on this chain, start once with"
            " --never-voted; else bring the guard back, or the chain could fork"
        )
    return open_scribe(
        config.data,
        signer=config.proposer,
        genesis_hash=genesis_hash,
        now_ms=now_ms,
        is_new=config.never_voted,
    )


def _check_lone_author(signer: Signer | TransactionSigner, executor: Executor) -> None:
    """A node without a network makes blocks alone or not at all."""
    members = validators_of(executor.state)
    if len(members) > 1:
        raise StorageError(
            f"this chain has {len(members)} validators: let this node talk to the others (--p2p-port, --peer)"
        )
    if signer.auth_key != members[0].auth_key:
        raise StorageError(
            f"the proposer key is {signer.address}'s, which is not an authority of this chain, or not its"
            " present key; start without it or with the present key of an authority"
        )


def _author(config: NodeConfig, executor: Executor) -> Author | None:
    """Who makes blocks on a chain that agrees by work; raises StorageError for one that never could."""
    address = config.mine_to or (config.proposer.address if config.proposer else "")
    if not address or not config.mining_processes:
        return None
    author = Author(
        address=address, signer=config.proposer, workers=config.mining_processes, extra=config.extra
    )
    try:
        check_author(executor, author)
    except (Stops, Rejected) as error:
        raise StorageError(str(error)) from None
    return author


def _network(config: NodeConfig, runtime: NodeRuntime) -> PeerNetwork | None:
    """Started by whoever made the runtime, which knows it from here on."""
    if not config.talks:
        return None
    head, genesis_hash = runtime.executor.head, runtime.executor.loaded.hash
    static = load_or_create_node_key(config.data / NODE_KEY_FILE)
    transport = TcpTransport(
        static=static,
        prologue=prologue_of(chain_id=head.block.header.chain_id, genesis_hash=genesis_hash),
        listen=None if config.p2p_port is None else (config.p2p_host, config.p2p_port),
    )
    height = head.block.header.height
    settings = PeerSettings(
        key=transport.key,
        settings_hash=genesis_hash,
        agent=f"aitbc/{__version__}",
        listen=_listen_of(config),
        record_key=record_key_of(static) if config.announce else b"",
        features=_features(config, runtime),
        bootstrap=config.bootstrap,
    )
    configured = [ConfiguredPeer(where) for where in config.peers]
    book = BookKeeper(config.data)
    if isinstance(runtime, WorkRuntime):
        runtime.work_network = WorkNetwork(
            host=runtime,
            transport=transport,
            settings=settings,
            configured=configured,
            status=Status(height, head.hash, runtime.work.engine.final.height),
            clock=SystemClock(),
            book=book,
        )
    else:
        runtime.network = NodeNetwork(
            host=runtime,
            transport=transport,
            settings=settings,
            configured=configured,
            status=Status(height, head.hash, height),
            clock=SystemClock(),
            book=book,
        )
    return runtime.neighbours


def _features(config: NodeConfig, runtime: NodeRuntime) -> tuple[str, ...]:
    """What a hello promises. That a node has a validator's key it tells nobody."""
    votes = () if isinstance(runtime, WorkRuntime) else (VOTES,)
    return (*votes, ARCHIVE) if config.role == KEEPS_ALL else votes


def _listen_of(config: NodeConfig) -> str:
    """What a hello says: the address that was announced, or the port at the address this node is seen at."""
    if config.announce is not None:
        return config.announce.where
    return "" if config.p2p_port is None else f":{config.p2p_port}"


def _finder(config: NodeConfig, runtime: NodeRuntime, network: PeerNetwork) -> Finder:
    return Finder(
        config.discovery,
        network=network,
        identity=Identity(
            chain_id=runtime.executor.head.block.header.chain_id,
            genesis_hash=runtime.executor.loaded.hash.hex(),
            static=load_or_create_node_key(config.data / NODE_KEY_FILE),
            endpoint=config.announce,
            agent=f"aitbc/{__version__}",
        ),
        clock=SystemClock(),
    )


def _runtime(config: NodeConfig, node: OpenNode) -> NodeRuntime:
    if work_settings(node.executor) is not None:
        return WorkRuntime(
            node.executor,
            node.store,
            author=_author(config, node.executor),
            clock=SystemClock(),
            processes=config.verify_processes,
        )
    return NodeRuntime(
        node.executor,
        node.store,
        scribe=node.scribe,
        clock=SystemClock(),
        timeout_ms=config.timeout_ms,
        processes=config.verify_processes,
    )


def create_app(config: NodeConfig, opened: OpenNode | None = None) -> FastAPI:
    """The node as an ASGI application; it opens its data folder at start-up unless it is given an open one."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        node = opened or open_node(config)
        runtime = _runtime(config, node)
        app.state.service = NodeService(config, runtime)
        app.state.program = runtime
        app.state.admin_turn = asyncio.Lock()
        network = _network(config, runtime)
        finder = _finder(config, runtime, network) if network is not None else None
        if network is not None and finder is not None:
            await network.start()
            finder.start()
        runtime.start()
        if isinstance(runtime, WorkRuntime):
            await runtime.start_miner()
        try:
            yield
        finally:
            if network is not None and finder is not None:
                await finder.stop()
                await network.stop()
            await runtime.stop()
            node.close()

    tracer = tracer_provider(config.otel_endpoint, program="aitbc-node") if config.otel_endpoint else None
    app = HotApp(
        telemetry={
            "tracing": tracer is not None,
            "tracer_provider": tracer,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
        },
        title="AITBC node",
        version=__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(Rejected, on_rejection)
    app.add_exception_handler(RequestValidationError, on_wrong_parameters)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(StorageError, on_storage_error)
    app.add_exception_handler(Exception, on_bug)
    for router in ROUTERS:
        app.include_router(router)
    app.openapi = describe(app)  # type: ignore[method-assign]
    app.hot = {} if tracer else HOT
    """What is traced takes the framework's way."""
    app.cors = Cors(config.cors_origins)
    limits = Limits(requests=config.request_rate, transactions=config.transaction_rate, keys=config.api_keys)
    app.state.limits = limits
    app.guard = guarded_ports(config, limits.guard)
    return app


def open_program(config: NodeConfig) -> OpenNode | OpenLister:
    """What the role needs; raises StorageError or Rejected with what to do."""
    return open_lister(config) if config.role == DISCOVERY else open_node(config)


class Program(Protocol):
    """What ends by itself when it finds a mistake in itself."""

    stopped: asyncio.Event
    failure: BaseException | None


async def serve(config: NodeConfig, opened: OpenNode | OpenLister) -> int:
    """Run until SIGINT or SIGTERM; exit code 1 when a bug stopped the node."""
    import uvicorn

    from aitbc.adapters.http.protocol import BoundedWebSocket
    from aitbc.adapters.http.serving import http_settings, listen

    class NodeWebSocket(BoundedWebSocket):
        max_frames = MAX_FRAMES

    app: Starlette = (
        create_lister_app(config, opened, SystemClock())
        if isinstance(opened, OpenLister)
        else create_app(config, opened)
    )
    settings = http_settings(
        app,
        timeout_graceful_shutdown=3,
        ws=NodeWebSocket,
        ws_max_size=MAX_ORDER_BYTES,
        ws_ping_interval=PING_S,
        ws_ping_timeout=PONG_S,
        ws_per_message_deflate=False,
    )
    server = uvicorn.Server(settings)
    watcher = asyncio.create_task(_stop_on_bug(app, server))
    try:
        sockets = [listen(config.rpc_host, port) for port in config.http_ports]
        await server.serve(sockets=sockets)
    finally:
        watcher.cancel()
    program: Program | None = getattr(app.state, "program", None)
    failed = program is None or program.failure is not None
    return 1 if failed or not server.started else 0


async def _stop_on_bug(app: Starlette, server: "object") -> None:
    """A runtime that stopped itself takes the server down with it."""
    while not hasattr(app.state, "program"):
        await asyncio.sleep(0.05)
    await app.state.program.stopped.wait()
    server.should_exit = True  # type: ignore[attr-defined]


def run(config: NodeConfig) -> int:
    """Open the data folder and serve; one log line says why when that is impossible."""
    try:
        opened = open_program(config)
    except (StorageError, Rejected) as error:
        log.critical("%s", error, extra={"component": "node", "event": "cannot_start"})
        return 1
    return loop.run(serve(config, opened))
