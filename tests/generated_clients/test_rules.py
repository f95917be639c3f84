"""The documents keep the rules, and each rule finds the defect that it was made for."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.generated_clients.rules import faults
from tests.support.api_documents import documents

Document = dict[str, Any]


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keyed"])
@pytest.mark.parametrize("name", ["public", "console"])
async def test_the_documents_keep_the_rules(name: str, keys: bool) -> None:
    assert faults(getattr(documents(keys=keys), name)) == []


def _renamed(old: str, new: str) -> Callable[[Document], None]:
    def damage(document: Document) -> None:
        text = json.dumps(document).replace(f'"{old}"', f'"{new}"')
        damaged = json.loads(text.replace(f"schemas/{old}", f"schemas/{new}"))
        document.clear()
        document.update(damaged)

    return damage


def _member(model: str, name: str, **changes: Any) -> Callable[[Document], None]:
    def damage(document: Document) -> None:
        member = document["components"]["schemas"][model]["properties"][name]
        member.update({key: value for key, value in changes.items() if value is not None})
        for key in [key for key, value in changes.items() if value is None]:
            del member[key]

    return damage


def _model(name: str, **changes: Any) -> Callable[[Document], None]:
    def damage(document: Document) -> None:
        schema = document["components"]["schemas"][name]
        schema.update(changes)
        for key in [key for key, value in changes.items() if value is None]:
            del schema[key]

    return damage


def _operation(path: str, **changes: Any) -> Callable[[Document], None]:
    def damage(document: Document) -> None:
        (operation,) = document["paths"][path].values()
        operation.update(changes)

    return damage


NULL = {"type": "null"}
DAMAGES = {
    "shadows Java's annotation": (_renamed("Position", "Override"), "Override"),
    "carries a Python module": (
        _renamed("Position", "ingress__routes__models__Position"),
        "ingress__routes__models__Position",
    ),
    "overflows Go's int32": (_member("FullDeadLetter", "id", format="int32", maximum=2**53), "id"),
    "has no size": (_member("FullDeadLetter", "id", format=None), "id"),
    "is null to Python's generator 7.10": (
        _member("MessageView", "traceId", type=None, anyOf=[{"type": "string"}, NULL]),
        "traceId",
    ),
    "is a list of types": (_member("MessageView", "traceId", type=["string", "null"]), "traceId"),
    "is a choice without a name": (
        _member("DeadLetterView", "state", anyOf=[{"type": "string"}, {"type": "string"}]),
        "state",
    ),
    "is an object without a name": (
        _member("Readiness", "components", items={"type": "object", "properties": {"a": {}}}),
        "components",
    ),
    "is a time in text": (_member("Ack", "acceptedAt", format=None), "acceptedAt"),
    "is an id in text": (_member("Ack", "messageId", format=None), "messageId"),
    "is a choice that nothing decides": (_model("BatchResult", discriminator=None), "BatchResult"),
    "refuses what a later version adds": (_model("Ack", additionalProperties=False), "Ack"),
    "has a tag that is not declared": (_operation("/healthz", tags=["new"]), "/healthz"),
    "has no operationId": (_operation("/healthz", operationId=""), "/healthz"),
    "has no 4xx": (_operation("/healthz", responses={}), "/healthz"),
    "has two models for its 2xx": (
        _operation(
            "/api/dead-letters/redrive",
            responses={
                "200": {"content": {"application/json": {"schema": {"type": "string"}}}},
                "202": {"content": {"application/json": {"schema": {"type": "boolean"}}}},
                "400": {"content": {"application/problem+json": {"schema": {"type": "string"}}}},
            },
        ),
        "/api/dead-letters/redrive",
    ),
}


@pytest.fixture(scope="module")
async def public() -> Document:
    return documents(keys=False).public


@pytest.mark.parametrize("what", DAMAGES)
async def test_a_document_is_found_faulty_that(public: Document, what: str) -> None:
    damage, where = DAMAGES[what]
    damaged = deepcopy(public)
    damage(damaged)
    found = faults(damaged)
    assert found
    assert all(where in fault for fault in found)
