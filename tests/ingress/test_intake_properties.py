"""The fast judge and the one that explains agree, whatever is thrown at them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ingress.accept.intake import Intake
from ingress.accept.submission import Submission
from ingress.schema.problems import Problem
from ingress.schema.requests import RequestLimits
from ingress.schema.validation_errors import explain
from ingress.web.headers import RequestContext
from otel.tracing.requests import Trace
from transport.clock import now
from transport.contract import Record, Topic
from transport.message.envelope import decode
from transport.message.identity import idempotency_key, message_id

LIMITS = RequestLimits(content_bytes=60, recipients=3, batch_items=100)
INTAKE = Intake(LIMITS)
NONE = RequestContext(None, Trace(None, None))

_text = st.text(max_size=20) | st.sampled_from(
    [
        "",
        "a:b",
        "100%",
        '"',
        "\\",
        "\\u0000",
        "\0",
        "\x01",
        "\u20ac" * 20,
        "\U0001f600" * 15,
        "x" * 257,
    ]
)
_any = _text | st.none() | st.booleans() | st.integers() | st.lists(_text, max_size=4)
_good = st.fixed_dictionaries(
    {"conversationId": _text, "senderId": _text, "content": _text, "clientMessageId": _text},
    optional={"contentType": _text, "recipientIds": st.lists(_text, max_size=4)},
)
_fine = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12
) | st.sampled_from(["a:b", "100%", '"', "\\", "\x01"])
_accepted = st.fixed_dictionaries(
    {"conversationId": _fine, "senderId": _fine, "content": _fine, "clientMessageId": _fine},
    optional={"contentType": _fine, "recipientIds": st.lists(_fine, max_size=3)},
)
_bad = st.dictionaries(
    st.sampled_from(
        ["conversationId", "senderId", "content", "contentType", "clientMessageId",
         "recipientIds", "unknown"]
    ),
    _any,
)  # fmt: skip
_message = _accepted | _good | _bad


@st.composite
def _written(draw: st.DrawFn, value: st.SearchStrategy[Any]) -> bytes:
    """JSON as different clients write it."""
    text = json.dumps(
        draw(value),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :  ")])),
    )
    return text.encode("utf-8", "surrogatepass")


def _judged(data: bytes, key: str | None = None) -> Submission | Problem:
    try:
        return INTAKE.message(data, NONE, key)
    except Problem as problem:
        return problem


@settings(max_examples=600, deadline=None)
@given(_written(_message), st.sampled_from([None, "key"]))
def test_what_the_fast_judge_accepts_has_nothing_to_explain(data: bytes, key: str | None) -> None:
    judged, problem = _judged(data, key), explain(data, LIMITS)
    if isinstance(judged, Submission):
        assert problem is None
        request = json.loads(data)
        assert judged.request.content == request["content"]
        key = idempotency_key(
            request["senderId"], request["conversationId"], judged.client_message_id
        )
        assert (judged.key, judged.message_id) == (key, message_id(key, request["conversationId"]))
    elif problem is None:
        # Only what the body alone can't show.
        assert [error.field for error in judged.errors] in (
            ["Idempotency-Key"],
            ["clientMessageId"],
        )
    else:
        assert judged.errors == problem.errors
        assert judged.kind.status in {400, 422}


@settings(max_examples=300, deadline=None)
@given(_written(_accepted))
def test_a_worker_that_is_handed_an_event_stores_what_the_body_says(data: bytes) -> None:
    judged = _judged(data)
    assert isinstance(judged, Submission)
    envelope = judged.seal(now(), 16)
    record = Record(Topic.MESSAGES, 0, "1-0", envelope.key, envelope.body, {}, 0.0)
    read = decode(record)
    assert envelope.event == read
    assert envelope.fingerprint == read.fingerprint()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | _written(_any))
def test_any_bytes_are_a_message_or_a_problem(data: bytes) -> None:
    assert isinstance(_judged(data), Submission | Problem)
    for many in (INTAKE.batch, INTAKE.lines):
        try:
            items = [item for item in many(data, NONE) if item is not None]
        except Problem:
            continue
        assert all(isinstance(item, Submission | Problem) for item in items)


@settings(max_examples=300, deadline=None)
@given(st.lists(_written(_message), min_size=1, max_size=5))
def test_an_item_is_judged_alike_alone_in_an_array_and_on_a_line(bodies: list[bytes]) -> None:
    def shown(item: Submission | Problem) -> Any:
        if isinstance(item, Problem):
            return item.kind.name, item.detail, item.errors
        return item.key, item.message_id, item.request

    expected = [shown(_judged(data)) for data in bodies]
    array = b"[" + b",".join(bodies) + b"]"
    assert [shown(item) for item in INTAKE.batch(array, NONE)] == expected
    assert [shown(item) for item in INTAKE.lines(b"\n".join(bodies), NONE)] == expected
