"""The operator's token: made at the first start, kept in the hub's folder, shown by whoever administers the hub.

Not the loopback address: behind a reverse proxy everybody comes from there.
"""

import hmac
import os
import secrets
from pathlib import Path

from starlette.requests import Request

from aitbc.core.jobs.reasons import JobReason, Refused

TOKEN_FILE = "admin.token"


def load_admin_token(folder: Path) -> str:
    """The token of a hub's folder; a new one where there is none."""
    path = folder / TOKEN_FILE
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    token = secrets.token_urlsafe(32)
    with os.fdopen(file, "w") as out:
        out.write(token + "\n")
    return token


def check_admin(request: Request, token: str) -> None:
    """Refuse who does not show the token."""
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
        raise Refused(JobReason.NOT_ADMIN, "this route is the operator's")
