"""Everything a hub can be told, with seed 003's names: one line a setting. docs/howto/configure.md"""

from aitbc.adapters.config.loader import Setting, Table
from aitbc.adapters.config.values import milliseconds, one_of, port, text

HUB = Table(
    "hub",
    (
        Setting("data", ("HUB_DATA_DIR",), text, "", "Folder of its database."),
        Setting("bind_host", ("BIND_HOST",), text, "127.0.0.1", "Where clients and providers come."),
        Setting("bind_port", ("BIND_PORT",), port, 8000, "HTTP and the provider link."),
        Setting("deliver", ("DELIVER_TIME",), milliseconds(5_000, 86_400_000), 120_000, "Time to deliver a job."),
        Setting("claim", ("CLAIM_TIME",), milliseconds(10_000, 86_400_000), 120_000, "Time to claim it after that."),
        Setting(
            "api_key", ("API_KEY",), text, "", "Later.", secret=True,
            later="every job is paid for by its client; API keys come with the gateway",
        ),
        Setting(
            "log_level", ("LOG_LEVEL",), one_of("debug", "info", "warning", "error", "critical"), "info",
            "What is logged.",
        ),
    ),
)  # fmt: skip
