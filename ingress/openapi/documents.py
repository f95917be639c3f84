"""The two OpenAPI documents. Each is made when it is first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from ingress.openapi.access import add_access, add_scopes
from ingress.openapi.dialect import plain, plain_parameter, plain_text, referred
from ingress.openapi.document_head import CONSOLE, PUBLIC, document_head
from ingress.openapi.examples import add_examples
from ingress.openapi.headers import add_headers
from ingress.openapi.hot_path import REF, hot_components, hot_paths
from ingress.openapi.operations import operations
from ingress.routes.descriptions import problems
from ingress.schema.problems import HEAD_TOO_LARGE
from ingress.schema.requests import MessageRequest
from ingress.schema.structs import ApiStruct
from ingress.settings import IngressSettings

__all__ = ["CONSOLE_PATH", "PATH", "Documents"]

PATH = "/openapi.json"
CONSOLE_PATH = "/openapi-console.json"

_NAMES = {
    "Action": "ActionView",
    "ComponentState": "Component",
    "LetterGroup": "LetterGroupView",
    "Letters": "Waiting",
    "Paused": "PausedView",
    "ProblemBody": "Problem",
    "ReadinessReport": "Readiness",
    "Reason": "DeadLetterReason",
    "RedriveProgress": "RedriveView",
    "StoredDeadLetter": "DeadLetterView",
    "StoredPosition": "Position",
    "StoredReceipt": "ReceiptView",
}
"""The component names of classes whose own name is clear only within its package."""


class Documents:
    """The OpenAPI documents of ``app`` and of the hot path in front of it.

    Args:
        app: The FastAPI application, with all routes outside the hot path.
        settings: Has the limits that the schemas state.
        payload_bytes: The largest content of a form; ``None`` if there is no payload store.
        keys_required: Whether operations need an API key.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        settings: IngressSettings,
        keys_required: bool,
        payload_bytes: int | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._payload_bytes = payload_bytes
        self._keys_required = keys_required

    @cached_property
    def public(self) -> dict[str, Any]:
        """The document of the API for producers, readers, operators and probes."""
        return self._made(list(PUBLIC), console=False)

    @cached_property
    def console(self) -> dict[str, Any]:
        """The document of the routes that only the console calls."""
        return self._made(list(CONSOLE), console=True)

    @cached_property
    def _whole(self) -> dict[str, Any]:
        """FastAPI's document with the hot path's routes, before any rewriting."""
        document = get_openapi(title="", version="", routes=self._app.routes)
        document["paths"] |= hot_paths(self._settings, self._payload_bytes)
        add_scopes(document, self._app)
        schemas = document["components"]["schemas"]
        kinds = [MessageRequest, *_structs(ApiStruct)]
        _, components = msgspec.json.schema_components(kinds, ref_template=REF)
        schemas |= components | hot_components(self._settings)
        # Not with the hot path's limits: this route's own limit of the body is smaller.
        _add_message(schemas["TestMessage"], components["MessageRequest"])
        return document

    def _made(self, tags: list[str], *, console: bool) -> dict[str, Any]:
        whole = self._whole
        document = {**document_head(console=console), "paths": _paths(whole, tags)}
        document["components"] = {"schemas": whole["components"]["schemas"]}
        _make_plain(document)
        _add_refusal(document)
        add_access(document, required=self._keys_required)
        add_headers(document)
        add_examples(document)
        _keep_reached(document)
        _open_answers(document)
        return document


def _structs(base: type[ApiStruct]) -> Iterator[type[ApiStruct]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _structs(kind)


def _add_message(test: dict[str, Any], message: dict[str, Any]) -> None:
    """Give the console's test message the members of a message."""
    test["properties"] = message["properties"] | test["properties"]
    test["required"] = [*message["required"], "clientMessageId", *test["required"]]
    test["additionalProperties"] = False


def _paths(whole: dict[str, Any], tags: list[str]) -> dict[str, Any]:
    """Return the paths that have one of ``tags``, in the order of the tags."""
    chosen: dict[str, Any] = {}
    for tag in tags:
        for path, method, operation in sorted(operations(whole), key=lambda found: found[0]):
            if operation["tags"] == [tag]:
                chosen.setdefault(path, {})[method] = operation
    return chosen


def _make_plain(document: dict[str, Any]) -> None:
    """Rewrite every schema for OpenAPI 3.0, and rename the components."""
    schemas = document["components"]["schemas"]
    document["components"]["schemas"] = {
        _NAMES.get(name, name): plain(schema, title=_NAMES.get(name, name))
        for name, schema in sorted(schemas.items(), key=lambda item: _NAMES.get(item[0], item[0]))
    }
    paths: dict[str, dict[str, Any]] = {}
    for path, method, operation in operations(document):
        made = dict(operation)
        if "parameters" in made:
            made["parameters"] = [
                {**parameter, "schema": plain_parameter(parameter["schema"])}
                for parameter in made["parameters"]
            ]
        if "requestBody" in made:
            made["requestBody"] = _plain_content(made["requestBody"])
        responses = sorted(made["responses"].items())
        made["responses"] = {status: _plain_content(response) for status, response in responses}
        if "description" in made:
            made["description"] = plain_text(made["description"])
        paths.setdefault(path, {})[method] = made
    document["paths"] = paths
    _rename_references(document)
    _add_types(document["components"]["schemas"], document)


def _plain_content(holder: dict[str, Any]) -> dict[str, Any]:
    if "content" not in holder:
        return holder
    content = {
        media: {**body, "schema": plain(body.get("schema", {}))}
        for media, body in holder["content"].items()
    }
    return {**holder, "content": content}


def _rename_references(value: Any) -> None:
    for member in _members(value):
        _rename_references(member)
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        place, _, name = value["$ref"].rpartition("/")
        value["$ref"] = f"{place}/{_NAMES.get(name, name)}"


def _add_types(schemas: dict[str, Any], value: Any) -> None:
    """Give each nullable reference the type of its component, which OpenAPI 3.0 requires."""
    for member in _members(value):
        _add_types(schemas, member)
    if isinstance(value, dict) and value.get("nullable") is True and "allOf" in value:
        (name,) = referred(value["allOf"])
        value["type"] = schemas[name]["type"]


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _add_refusal(document: dict[str, Any]) -> None:
    """Add the answer 431 (head too large) to operations that describe no other 4xx answer.

    The connection itself can give this answer, for every operation.
    """
    for _, _, operation in operations(document):
        if not any(status.startswith("4") for status in operation["responses"]):
            described = problems(HEAD_TOO_LARGE)
            operation["responses"] |= {str(status): answer for status, answer in described.items()}


def _reached(document: dict[str, Any], begin: Iterator[str]) -> set[str]:
    """Return the names of ``begin`` and of all components that these refer to."""
    schemas = document["components"]["schemas"]
    reached: set[str] = set()
    left = list(begin)
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left.extend(referred(schemas[name]))
    return reached


def _keep_reached(document: dict[str, Any]) -> None:
    reached = _reached(document, referred(document["paths"]))
    schemas = document["components"]["schemas"]
    document["components"]["schemas"] = {
        name: schema for name, schema in schemas.items() if name in reached
    }


def _open_answers(document: dict[str, Any]) -> None:
    """Allow unknown members in the objects of answers.

    A later version of the service may add members, and generated clients of several languages
    refuse unknown members unless the schema allows them.
    """
    bodies = [
        operation["requestBody"]
        for _, _, operation in operations(document)
        if "requestBody" in operation
    ]
    asked = _reached(document, referred(bodies))
    for name, schema in document["components"]["schemas"].items():
        if name not in asked and schema.get("type") == "object":
            schema["additionalProperties"] = True
