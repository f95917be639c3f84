"""The translation of pydantic's and msgspec's schemas (JSON Schema 2020-12) to OpenAPI 3.0.

Code generators need each of these rules: some fail at a ``null`` among the types of a schema, most
take an integer without a size for 32 bits, and a title of a property is no useful name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["plain", "plain_parameter", "plain_text", "referred"]

Schema = dict[str, Any]

_INT32 = 2**31 - 1
_MARKUP = re.compile(r"``([^`]*)``")
_LISTS = ("allOf", "anyOf", "oneOf")
_NULL = {"type": "null"}
_SAY_NOTHING: tuple[tuple[str, Any], ...] = (("default", None), ("required", []))


def plain(schema: Schema, *, title: str | None = None) -> Schema:
    """Return ``schema`` in forms that OpenAPI 3.0 and code generators understand.

    ``title`` is the name of a component; other schemas get no title.
    """
    made = {name: value for name, value in schema.items() if name not in {"title", "examples"}}
    made = {name: value for name, value in made.items() if (name, value) not in _SAY_NOTHING}
    made, nullable = _without_null(made)
    if "const" in made:
        made["enum"] = [made.pop("const")]
    if "enum" in made:
        made.setdefault("type", _type_of(made["enum"]))
    _plain_inner(made)
    if "$ref" in made and (nullable or len(made) > 1):
        made["allOf"] = [{"$ref": made.pop("$ref")}]  # 3.0 ignores members beside a reference
    if nullable:
        made["nullable"] = True
    _sized(made)
    if "description" in made:
        made["description"] = plain_text(made["description"])
    return {"title": title, **made} if title else made


def plain_parameter(schema: Schema) -> Schema:
    """Return the schema of a parameter. A parameter may be missing, but is never null."""
    made = plain(schema)
    made.pop("nullable", None)
    if made.keys() == {"allOf"}:
        (reference,) = referred(made)
        return {"$ref": f"#/components/schemas/{reference}"}
    return made


def plain_text(text: str) -> str:
    """Return a docstring as Markdown, with each paragraph on one line."""
    text = _MARKUP.sub(r"`\1`", text)
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def referred(value: Any) -> Iterator[str]:
    """Yield the names of the components that ``value`` refers to directly."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "$ref":
                yield member.rpartition("/")[2]
            else:
                yield from referred(member)
    elif isinstance(value, list):
        for member in value:
            yield from referred(member)


def _without_null(schema: Schema) -> tuple[Schema, bool]:
    """Return the schema without the type null, and whether the schema allowed null."""
    kind = schema.get("type")
    if isinstance(kind, list):
        (only,) = [name for name in kind if name != "null"]
        return {**schema, "type": only}, True
    for name in ("anyOf", "oneOf"):
        choices = schema.get(name, [])
        left = [choice for choice in choices if choice != _NULL]
        if len(left) == len(choices):
            continue
        rest = {key: value for key, value in schema.items() if key != name}
        if len(left) > 1:
            return {**rest, name: left}, True
        (only,) = left
        inner, _ = _without_null({key: value for key, value in only.items() if key != "title"})
        return {**inner, **rest}, True
    return schema, False


def _plain_inner(schema: Schema) -> None:
    for name in _LISTS:
        if name in schema:
            schema[name] = [plain(choice) for choice in schema[name]]
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            schema[name] = plain(schema[name])
    if schema.get("type") == "object" and "properties" not in schema:
        schema.setdefault("additionalProperties", True)
    if "properties" in schema:
        schema["properties"] = {
            name: plain(member) for name, member in schema["properties"].items()
        }


def _type_of(values: list[Any]) -> str:
    kinds: dict[Callable[[Any], bool], str] = {
        lambda value: isinstance(value, bool): "boolean",
        lambda value: isinstance(value, int): "integer",
        lambda value: isinstance(value, str): "string",
    }
    return next(name for test, name in kinds.items() if all(map(test, values)))


def _sized(schema: Schema) -> None:
    if schema.get("type") == "integer":
        for bound in ("minimum", "maximum"):
            if bound in schema:
                schema[bound] = int(schema[bound])
        most = max(schema["enum"]) if "enum" in schema else schema.get("maximum")
        small = most is not None and most <= _INT32
        schema.setdefault("format", "int32" if small else "int64")
    elif schema.get("type") == "number":
        schema.setdefault("format", "double")
