"""Rules that an OpenAPI document has to keep, so that generated clients compile and work.

Each was broken once, and a client of some language did not compile, or refused a good answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["faults"]

Schema = dict[str, Any]


class Place(NamedTuple):
    """A schema, and where it stands: ``#/components/schemas/Ack/properties/state``, say."""

    path: str
    schema: Schema

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def component(self) -> bool:
        return self.path.count("/") == 3 and self.path.startswith("#/components/")


# Types that every file of some language knows without an import, and keywords: a model of that
# name stands in their place, or can't be written at all.
_TAKEN = set(
    re.findall(
        r"\w+",
        """
    Override Deprecated FunctionalInterface SafeVarargs SuppressWarnings Object String Integer
    Long Short Byte Character Boolean Double Float Number Math Process Record Runtime System
    Thread Error Exception Enum Iterable Comparable Void Package Module Class Iterable Runnable
    Cloneable Throwable Date Map Set Array Promise Response Request Headers Blob File Symbol
    Function Interface Type Default Public Import None True False Any List Dict Optional Union
    Literal Field Model Configuration Api
    """,
    )
)
_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_TIME = re.compile(r"at|.*At")
_ID = re.compile(r"(message|redrive)Id")
_ANY_TEXT = {
    # What another producer wrote, shown as it is.
    "FoundMessage/properties/messageId", "FoundMessage/properties/acceptedAt",
    "SampleView/properties/messageId", "LogRecord/properties/messageId",
    "TimelineStep/properties/at", "Step/properties/at",
}  # fmt: skip
_INT32 = 2**31 - 1
_SINGLE = ("items", "additionalProperties", "not")
_SEVERAL = ("allOf", "anyOf", "oneOf")


def faults(document: dict[str, Any]) -> list[str]:
    """Return the faults, each with its place."""
    return [*_names(document), *_schemas(document), *_operations(document), *_openness(document)]


def _names(document: dict[str, Any]) -> Iterator[str]:
    names = document["components"]["schemas"]
    for name, count in Counter(name.lower() for name in names).items():
        if count > 1:
            yield f"{name}: two models differ in case only"
    for name in names:
        if not _NAME.fullmatch(name):
            yield f"{name}: no name of a model"
        if name in _TAKEN:
            yield f"{name}: a type or keyword of some language"


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    for place in _all(document):
        yield from (f"{place.path}: {fault}" for fault in _types(place))
        yield from (f"{place.path}: {fault}" for fault in _formats(place))
        yield from (f"{place.path}: {fault}" for fault in _models(place, document))


def _types(place: Place) -> Iterator[str]:
    kind = place.schema.get("type")
    if kind == "null" or isinstance(kind, list):
        yield f"the type {kind}"
    if "const" in place.schema or place.schema.get("enum", [0])[0] is None:
        yield "a constant that is not an enumeration"
    if place.schema.get("nullable") and kind is None:
        yield "may be null and has no type"
    if "enum" in place.schema and kind is None:
        yield "an enumeration without a type"
    if "$ref" in place.schema and len(place.schema) > 1:
        yield "something beside a reference, where it is not read"


def _formats(place: Place) -> Iterator[str]:
    schema = place.schema
    shape = schema.get("format")
    if schema.get("type") == "integer":
        bounds = [schema.get("maximum"), *schema.get("enum", [])]
        if shape not in {"int32", "int64"}:
            yield "an integer without a size"
        elif shape == "int32" and any(bound is not None and bound > _INT32 for bound in bounds):
            yield "an int32 that may be larger"
    if schema.get("type") != "string" or any(place.path.endswith(ending) for ending in _ANY_TEXT):
        return
    if "/properties/" not in place.path:
        return
    if _TIME.fullmatch(place.name) and shape != "date-time":
        yield "a time without format: date-time"
    if _ID.fullmatch(place.name) and shape != "uuid":
        yield "an id without format: uuid"


def _models(place: Place, document: dict[str, Any]) -> Iterator[str]:
    schema = place.schema
    if place.component and schema.get("title") != place.name:
        yield "its title is not its name"
    if not place.component and "properties" in schema:
        yield "an object without a name"
    for word in ("anyOf", "oneOf"):
        choices = schema.get(word, [])
        if not place.component and choices:
            yield "a choice without a name"
        if any("$ref" in choice for choice in choices):
            yield from _discriminated(schema, choices, document)


def _discriminated(
    schema: Schema, choices: list[Schema], document: dict[str, Any]
) -> Iterator[str]:
    told = schema.get("discriminator")
    if told is None:
        yield "a choice of models without a discriminator"
        return
    if sorted(told["mapping"].values()) != sorted(choice["$ref"] for choice in choices):
        yield "a discriminator for other models"
    for value, target in told["mapping"].items():
        model = document["components"]["schemas"][target.rpartition("/")[2]]
        member = model["properties"].get(told["propertyName"], {})
        if member.get("enum") != [value] or told["propertyName"] not in model["required"]:
            yield f"{target} does not say that it is {value}"


def _operations(document: dict[str, Any]) -> Iterator[str]:
    seen: set[str] = set()
    declared = {tag["name"] for tag in document["tags"] if tag["description"]}
    used: set[str] = set()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method.upper()} {path}"
            name = operation.get("operationId", "")
            if not re.fullmatch(r"[a-z][A-Za-z]+", name) or name in seen:
                yield f"{where}: no operationId of its own"
            seen.add(name)
            if len(operation["tags"]) != 1 or not declared.issuperset(operation["tags"]):
                yield f"{where}: not one tag that is declared"
            used.update(operation["tags"])
            if not all(operation.get(text) for text in ("summary", "description")):
                yield f"{where}: no summary or description"
            yield from (f"{where}: {fault}" for fault in _answers(operation))
    for tag in declared - used:
        yield f"the tag {tag!r} has no operation"


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    responses = operation["responses"]
    if not any(status.startswith("4") for status in responses):
        yield "no 4xx"
    good = {
        str(media.get("schema"))
        for status, response in responses.items()
        if status.startswith("2")
        for kind, media in response.get("content", {}).items()
        if kind == "application/json"
    }
    if len(good) > 1:
        yield "different models for different 2xx: most generated clients know one"
    for status, response in responses.items():
        if status.startswith("4") and list(response["content"]) != ["application/problem+json"]:
            yield f"{status} is no problem document"


def _openness(document: dict[str, Any]) -> Iterator[str]:
    """Requests name all their members; answers may get others in a later version."""
    asked: set[str] = set()
    left = [
        operation.get("requestBody")
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    while left:
        for name in set(re.findall(r"'#/components/schemas/(\w+)'", str(left.pop()))) - asked:
            asked.add(name)
            left.append(document["components"]["schemas"][name])
    for name, schema in document["components"]["schemas"].items():
        if schema.get("type") == "object" and schema["additionalProperties"] is (name in asked):
            yield f"{name}: {'takes' if name in asked else 'refuses'} members that are not named"


def _all(document: dict[str, Any]) -> Iterator[Place]:
    for name, schema in document["components"]["schemas"].items():
        yield from _below(Place(f"#/components/schemas/{name}", schema))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield from _of_operation(f"{method.upper()} {path}", operation)


def _of_operation(where: str, operation: dict[str, Any]) -> Iterator[Place]:
    for parameter in operation.get("parameters", ()):
        yield from _below(Place(f"{where} {parameter['name']}", parameter["schema"]))
    for status, body in {
        "body": operation.get("requestBody", {}),
        **operation["responses"],
    }.items():
        for media, content in body.get("content", {}).items():
            yield from _below(Place(f"{where} {status} {media}", content["schema"]))


def _below(place: Place) -> Iterator[Place]:
    yield place
    schema = place.schema
    for name, member in schema.get("properties", {}).items():
        yield from _below(Place(f"{place.path}/properties/{name}", member))
    for word in _SINGLE:
        if isinstance(schema.get(word), dict):
            yield from _below(Place(f"{place.path}/{word}", schema[word]))
    for word in _SEVERAL:
        for number, branch in enumerate(schema.get(word, [])):
            if branch.keys() != {"required"}:  # which members come together, not a model
                yield from _below(Place(f"{place.path}/{word}/{number}", branch))
