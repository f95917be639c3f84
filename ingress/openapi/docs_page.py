"""The documentation page: ``assets/docs.html`` filled in with the OpenAPI documents.

FastAPI's own pages load Swagger UI from other people's servers. Without internet access they stay
blank, and foreign scripts run on a page where users type an API key. This page loads everything
from this service, and can send each request.
"""

from __future__ import annotations

import json
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["page"]

_TOLD = {"date-time", "uuid"}
_LIMITS = {
    "minLength": "min length",
    "maxLength": "max length",
    "minimum": "from",
    "maximum": "to",
    "default": "default",
}

Schema = dict[str, Any]


def page(public: dict[str, Any], console: dict[str, Any]) -> str:
    """Return the HTML page for the two documents; the console's routes come last."""
    pages = Environment(
        loader=PackageLoader("ingress.openapi", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {
        "kind": kind,
        "resolved": _resolved,
        "example": _example,
        "indented": lambda value: json.dumps(value, indent=2),
    }
    return pages.get_template("docs.html").render(public=public, console=console)


def kind(schema: Schema) -> str:
    """Return a schema's type as text for readers, with its format and limits."""
    if schema.get("nullable"):
        return f"{kind({**schema, 'nullable': False})} or null"
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(kind(choice) for choice in schema[several])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {kind(schema.get('items', {}))}"
    limits = [f"{word} {schema[name]}" for name, word in _LIMITS.items() if name in schema]
    shape = f"({schema['format']})" if schema.get("format") in _TOLD else ""
    return " ".join(part for part in (str(schema.get("type", "")), shape, *limits) if part)


def _resolved(schema: Schema, document: dict[str, Any]) -> Schema:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        target: Schema = document["components"]["schemas"][name]
        return target
    return schema


def _example(schema: Schema, document: dict[str, Any]) -> Any:
    schema = _resolved(schema, document)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            members = schema.get("properties", {})
            return {name: _example(members[name], document) for name in schema.get("required", [])}
        case "array":
            return []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return ""
