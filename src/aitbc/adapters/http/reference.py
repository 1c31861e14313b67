"""An OpenAPI document as one page of plain HTML: no script, nothing fetched from anywhere."""

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec

Json = Mapping[str, Any]

_STYLE = (
    "body{font:16px/1.5 system-ui;margin:2rem auto;max-width:60rem;padding:0 1rem}code,pre{font:14px monospace}"
    "pre{background:#f4f4f4;padding:.5rem;overflow-x:auto}h3{margin:2rem 0 .3rem}h3 code{font-size:16px}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.1rem 1rem .1rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}pre{background:#222}a{color:#8af}}"
)


def reference_page(document: Json) -> str:
    """Operations by tag, each with parameters, body and answers; then the records."""
    groups: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation))
    parts = [f"<h2 id={escape(tag)}>{escape(tag)}</h2>{''.join(found)}" for tag, found in groups.items()]
    records = "".join(_record(name, schema) for name, schema in document["components"]["schemas"].items())
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    links = " · ".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in groups)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{escape(document['info'].get('description', ''))}"
        f'<p><a href="/openapi.json">openapi.json</a> · {links} · <a href="#records">records</a>'
        f"{''.join(parts)}<h2 id=records>Records</h2>{records}"
    )


def _operation(method: str, path: str, operation: Json) -> str:
    rows = [
        _row(f"<code>{escape(parameter['name'])}</code>", f"{parameter['in']}: {_type(parameter['schema'])}")
        for parameter in operation.get("parameters", ())
    ]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(_row(f"body, {escape(media)}", _type(content["schema"])))
    for status, response in operation["responses"].items():
        kinds = [_type(content["schema"]) for content in response.get("content", {}).values()]
        rows.append(_row(escape(status), " or ".join(kinds) or escape(response["description"])))
    text = escape(operation.get("description", ""))
    return (
        f"<h3><code>{method.upper()} {escape(path)}</code></h3>{escape(operation.get('summary', ''))}"
        f"<p>{text}<table>{''.join(rows)}</table>"
    )


def _row(name: str, text: str) -> str:
    return f"<tr><th scope=row>{name}</th><td>{text}</td></tr>"


def _type(schema: Json) -> str:
    """A record by its name, anything else as it is."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return f'<a href="#record-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array" and "$ref" in schema.get("items", {}):
        return f"list of {_type(schema['items'])}"
    return f"<code>{escape(msgspec.json.encode(schema).decode())}</code>"


def _record(name: str, schema: Json) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        _row(f"<code>{escape(field)}</code>{'' if field in needed else '?'}", _type(kind))
        for field, kind in schema.get("properties", {}).items()
    ]
    return (
        f'<h3 id="record-{escape(name)}"><code>{escape(name)}</code></h3>{escape(schema.get("description", ""))}'
        f"<table>{''.join(rows)}</table>"
    )
