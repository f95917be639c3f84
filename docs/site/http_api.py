"""The page of the HTTP API, made from the OpenAPI document that the service serves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.support.api_documents import documents

__all__ = ["page"]

_LIVE = (
    "A running service has this page at `/docs`, where each request can be sent, and the "
    "document that it is made from at `/openapi.json`."
)
_TYPES = {"date-time", "uuid"}
_BOUNDS = {
    "minLength": "min length",
    "maxLength": "max length",
    "minimum": "from",
    "maximum": "to",
    "default": "default",
}


def page() -> str:
    """Return the page as Markdown."""
    document = documents(keys=True).public
    parts = [
        "# HTTP API",
        document["info"]["description"],
        _LIVE,
    ]
    for tag in document["tags"]:
        parts += [f"## {tag['name'].capitalize()}", tag["description"]]
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag["name"]]:
                    parts += _operation(method, path, operation)
    parts.append("## Bodies")
    for name, schema in document["components"]["schemas"].items():
        parts += _component(name, schema)
    return "\n\n".join(part for part in parts if part) + "\n"


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    parts = [
        f"### {method.upper()} {path} {{: #{operation['operationId']} }}",
        f"**{operation.get('summary', '')}**",
        operation.get("description", ""),
    ]
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"`{parameter['name']}`{' (needed)' if parameter.get('required') else ''}",
                parameter["in"],
                _kind(parameter["schema"]),
                parameter.get("description", ""),
            )
            for parameter in parameters
        ]
        parts.append(_table(("parameter", "in", "type", "meaning"), rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"Body `{media}`: {_kind(content['schema'])}")
        if "example" in content:
            parts.append(f"```json\n{json.dumps(content['example'], indent=2)}\n```")
    responses: list[tuple[str, ...]] = []
    for status, response in sorted(operation["responses"].items()):
        bodies = response.get("content", {}).items()
        shown = ", ".join(f"`{media}` {_kind(body['schema'])}" for media, body in bodies)
        responses.append((status, response.get("description", ""), shown))
    parts.append(_table(("status", "meaning", "body"), responses))
    return parts


def _component(name: str, schema: dict[str, Any]) -> list[str]:
    needed = schema.get("required", [])
    rows = [
        (
            f"`{member}`{' (needed)' if member in needed else ''}",
            _kind(shape),
            shape.get("description", ""),
        )
        for member, shape in schema.get("properties", {}).items()
    ]
    return [
        f"### {name} {{: #{name} }}",
        schema.get("description", ""),
        _table(("member", "type", "meaning"), rows) if rows else _kind(schema),
    ]


def _kind(schema: dict[str, Any]) -> str:
    if schema.get("nullable"):
        return f"{_kind({**schema, 'nullable': False})} or null"
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_kind(choice) for choice in schema[several])
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    bounds = [f"{word} {schema[name]}" for name, word in _BOUNDS.items() if name in schema]
    shape = f"({schema['format']})" if schema.get("format") in _TYPES else ""
    return " ".join(part for part in (str(schema.get("type", "any")), shape, *bounds) if part)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ((cell.replace("\n", " ").replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
