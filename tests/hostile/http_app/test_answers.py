"""How much is said of a body at fault: enough to mend it, and no more than that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingress.schema.problems import Problem
from ingress.schema.requests import RequestLimits
from ingress.schema.validation_errors import explain

LIMITS = RequestLimits(content_bytes=100, recipients=10, batch_items=10)


def told(body: Any) -> Problem:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    problem = explain(data, LIMITS)
    assert problem is not None
    return problem


def test_twenty_errors_are_listed_and_the_others_counted() -> None:
    problem = told({f"x{n}": 1 for n in range(50)})
    assert len(problem.errors) == 20
    assert problem.detail == "conversationId: is missing (and 52 more)"


def test_past_a_hundred_nothing_is_counted() -> None:
    problem = told({f"x{n}": 1 for n in range(100_000)})
    assert len(problem.errors) == 20
    assert problem.detail == "x0: is not a known field (and at least 99 more)"


def test_a_suggestion_is_made_for_a_short_name_and_a_long_name_is_cut() -> None:
    near, long = told({"convresationId": 1, "conversationId" * 9: 1}).errors[-2:]
    assert near.remedy == "Did you mean 'conversationId'?"
    assert len(long.field) == 64
    assert long.remedy.startswith("Known fields: ")


def test_what_is_too_long_to_look_through_is_refused_all_the_same() -> None:
    sound = {"conversationId": "c", "senderId": "s", "content": ""}
    assert explain(json.dumps(sound).encode(), LIMITS) is None
    many = told(sound | {"recipientIds": ["a"] * 100_000})
    assert [(error.field, error.message) for error in many.errors] == [
        ("recipientIds", "has more than 10")
    ]
    inside = told(sound | {"content": [[{}] * 100_000]})
    assert [(error.field, error.message) for error in inside.errors] == [
        ("content", "is an array, not a string")
    ]
    assert inside.detail == "content: is an array, not a string", "and no word of at least 0 more"


@pytest.mark.parametrize(
    "body",
    [b'{"content":"\\ud800 x"}', b'{"\\ud800":1,"a":2}', b'{"recipientIds":["\\udc00 "],"a":1}'],
)
def test_half_a_surrogate_pair_is_no_character(body: bytes) -> None:
    problem = told(body)
    assert problem.kind.name in {"malformed-body", "invalid-fields"}
    json.dumps([problem.detail, [error.field for error in problem.errors]]).encode()
