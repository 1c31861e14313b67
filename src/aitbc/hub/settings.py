"""Everything a hub can be told, with seed 003's names: one line a setting. docs/howto/configure.md"""

from typing import Any

from aitbc.adapters.config.loader import Setting, Table
from aitbc.adapters.config.values import milliseconds, one_of, port, text, words


def shared_database(value: Any) -> str:
    """Seed 001's DATABASE_URL=sqlite:///blockchain.db is the node's file: a hub keeps its own in its data folder."""
    url = text(value)
    if not url or url.startswith("sqlite:///"):
        return ""
    if url.partition("://")[0] not in ("postgresql", "postgres"):
        raise ValueError(
            "postgresql://user:password@host:port/database is wanted, or nothing for the data folder"
        )
    return url


HUB = Table(
    "hub",
    (
        Setting("data", ("HUB_DATA_DIR",), text, "", "Folder of its database."),
        Setting(
            "database", ("HUB_DATABASE_URL", "DATABASE_URL"), shared_database, "",
            "postgresql://…: queue and accounts of several hub processes.", secret=True,
        ),
        Setting("cors_origins", ("CORS_ORIGINS",), words, (), "Web pages of others that may ask."),
        Setting("bind_host", ("BIND_HOST",), text, "127.0.0.1", "Where clients and providers come."),
        Setting("bind_port", ("BIND_PORT",), port, 8000, "HTTP and the provider link."),
        Setting("deliver", ("DELIVER_TIME",), milliseconds(5_000, 86_400_000), 120_000, "Time to deliver a job."),
        Setting("claim", ("CLAIM_TIME",), milliseconds(10_000, 86_400_000), 120_000, "Time to claim it after that."),
        Setting(
            "api_key", ("API_KEY",), text, "", "Later.", secret=True,
            later="it is for `aitbc provider serve`; a hub's keys are made with `aitbc hub key`",
        ),
        Setting(
            "log_level", ("LOG_LEVEL",), one_of("debug", "info", "warning", "error", "critical"), "info",
            "What is logged.",
        ),
    ),
)  # fmt: skip
