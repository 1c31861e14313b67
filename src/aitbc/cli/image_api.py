"""`aitbc image --api URL`: seed 003's client, for a provider alone (stage 1) and for a hub."""

import os
from pathlib import Path
from typing import Any

from aitbc.cli.errors import CliError
from aitbc.cli.files import receipt_path, write_bytes, write_json
from aitbc.cli.settings import Settings
from aitbc.cli.show import answer
from aitbc.client.images import generate_image


def ask_server(settings: Settings, url: str, fields: dict[str, Any], output: Path, *, timeout: float) -> None:
    """Write the picture; of a hub's answer the receipt, too."""
    key = os.environ.get("API_KEY", "")
    if not key:
        raise CliError("no key for the server", "set API_KEY to it", code="usage")
    made = generate_image(url, api_key=key, fields=fields, timeout=timeout)
    write_bytes(output, made.data)
    view = {"job_id": made.job_id, "duration_ms": made.duration_ms, "gpu_seconds": made.gpu_seconds}
    line = f"{output}, job {made.job_id}, {made.duration_ms} ms"
    if made.receipt is not None:
        write_json(receipt_path(output), made.receipt)
        line += f", receipt {receipt_path(output)}"
    answer(settings, {**view, "file": str(output)}, line)
