"""`aitbc hub key …`: make, list and revoke API keys, give credit, export usage; asks a running hub."""

from pathlib import Path
from typing import Any

import click

from aitbc.cli.errors import CliError
from aitbc.cli.money import amount
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, table
from aitbc.core.types.amounts import format_ait

TOKEN_VARIABLE = "AITBC_HUB_ADMIN_TOKEN"

_DATA = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help=f"The hub's folder, whose admin.token is used; {TOKEN_VARIABLE} instead when it is on another machine.",
)


@click.group("key")
def command() -> None:
    """API keys of a running hub."""


@command.command("new", cls=AitbcCommand)
@click.option(
    "--account", default="", metavar="ACCOUNT", help="An AIT address or a name; a new one by default."
)
@click.option("--label", default="", metavar="TEXT", help="For people.")
@click.option("--budget", type=amount, metavar="AMOUNT", help="The most that the key may ever spend.")
@click.option(
    "--credit", type=amount, metavar="AMOUNT", help="Give the account credit: your coins pay for it."
)
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens a minute.")
@click.option("--model", "models", multiple=True, help="Only this model; repeatable.")
@click.option("--days", type=click.IntRange(1, 3650), metavar="N", help="The key ends after so many days.")
@_DATA
@click.pass_obj
def new(
    settings: Settings,
    account: str,
    label: str,
    budget: int | None,
    credit: int | None,
    rpm: int | None,
    tpm: int | None,
    models: tuple[str, ...],
    days: int | None,
    data: Path | None,
) -> None:
    """Make a key. It is shown once: the hub keeps its hash."""
    import time

    body: dict[str, Any] = {
        "account": account,
        "label": label,
        "models": list(models),
        **{
            name: value
            for name, value in (("budget", budget), ("rpm", rpm), ("tpm", tpm))
            if value is not None
        },
    }
    if days is not None:
        body["expires_ms"] = int((time.time() + days * 86_400) * 1000)
    token = _token(settings, data)
    made = _ask(settings, token, "POST", "/admin/keys", body)
    if credit is not None:
        _ask(settings, token, "POST", f"/admin/accounts/{made['key']['account']}/credit", {"amount": credit})
    rows = [
        ("key", made["api_key"]),
        ("id", made["key"]["id"]),
        ("account", made["key"]["account"]),
        ("credit", format_ait(credit or 0)),
    ]
    answer(settings, made, *table(rows))


@command.command("list", cls=AitbcCommand)
@click.option("--account", default="", metavar="ACCOUNT", help="Only this account's.")
@_DATA
@click.pass_obj
def list_keys(settings: Settings, account: str, data: Path | None) -> None:
    """Show all keys, without their texts."""
    keys = _ask(settings, _token(settings, data), "GET", "/admin/keys", query={"account": account})["keys"]
    rows = [(key["id"], key["account"], key["label"], _spent(key), _state(key)) for key in keys]
    answer(settings, {"keys": keys}, *(table(rows) if rows else ["no keys yet: aitbc hub key new"]))


@command.command("revoke", cls=AitbcCommand)
@click.argument("key_id", metavar="ID")
@_DATA
@click.pass_obj
def revoke(settings: Settings, key_id: str, data: Path | None) -> None:
    """Refuse a key from now on."""
    from urllib.parse import quote

    gone = _ask(settings, _token(settings, data), "DELETE", f"/admin/keys/{quote(key_id, safe='')}")
    answer(settings, gone, f"{key_id} is revoked")


@command.command("credit", cls=AitbcCommand)
@click.argument("account")
@click.argument("credit", type=amount, metavar="AMOUNT")
@click.option("--name", default="", metavar="NAME", help="The same name again gives nothing twice.")
@_DATA
@click.pass_obj
def give_credit(settings: Settings, account: str, credit: int, name: str, data: Path | None) -> None:
    """Give an account credit; the hub's own coins pay the providers."""
    from urllib.parse import quote

    path = f"/admin/accounts/{quote(account, safe='')}/credit"
    given = _ask(settings, _token(settings, data), "POST", path, {"amount": credit, "name": name})
    answer(settings, given, f"{account} has {format_ait(given['free'])} to spend")


@command.command("usage", cls=AitbcCommand)
@click.option("--account", default="", metavar="ACCOUNT", help="Only this account's.")
@click.option("--csv", "as_csv", is_flag=True, help="For a spreadsheet.")
@_DATA
@click.pass_obj
def usage(settings: Settings, account: str, as_csv: bool, data: Path | None) -> None:
    """Export finished jobs, oldest first."""
    import csv
    import sys

    rows = _ask(settings, _token(settings, data), "GET", "/admin/usage", query={"account": account})["rows"]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]) if rows else ["job_id"])
        writer.writeheader()
        writer.writerows(rows)
        return
    shown = [
        (row["job_id"], row["account"], row["model"], row["state"], format_ait(row["price"])) for row in rows
    ]
    answer(settings, {"rows": rows}, *(table(shown) if shown else ["nothing yet"]))


def _token(settings: Settings, data: Path | None) -> str:
    import os

    given = os.environ.get(TOKEN_VARIABLE, "")
    path = (data or settings.home.expanduser() / "hub") / "admin.token"
    if given and data is None:
        return given
    if not path.is_file():
        fix = f"name the hub's folder with --data, or set {TOKEN_VARIABLE}"
        raise CliError(f"{path} is not there", fix, code="no_admin_token")
    return path.read_text().strip()


def _ask(
    settings: Settings,
    token: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    query: dict[str, str | int] | None = None,
) -> Any:
    from aitbc.client.http import Call
    from aitbc.client.hub import HubClient

    headers = {"authorization": f"Bearer {token}"}
    call = Call(method=method, path=path, read=_object, body=body, headers=headers, query=query or {})
    with HubClient(settings.hub) as hub:
        return hub.perform(call)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    return value


def _spent(key: dict[str, Any]) -> str:
    spent = format_ait(key["spent"])
    return f"{spent} of {format_ait(key['budget'])}" if key["budget"] else spent


def _state(key: dict[str, Any]) -> str:
    import time

    if key["revoked_ms"]:
        return "revoked"
    return "expired" if key["expires_ms"] and key["expires_ms"] < time.time() * 1000 else "good"
