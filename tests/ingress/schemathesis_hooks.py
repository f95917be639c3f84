"""What an OpenAPI document has no words for, told to Schemathesis so that it looks elsewhere."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import schemathesis

_STREAMS = {"GET /api/console/events", "GET /api/console/tail/events"}
_RECORDS = "GET /api/console/logs/{log}/partitions/{partition}/records"


@schemathesis.hook
def map_case(_context: Any, case: Any) -> Any:
    """Keep the rules that span requests, or a header and the body, in cases meant to be valid."""
    if case.operation.label in _STREAMS:
        # Of an endless stream the first: each takes a second. What is out of bounds stays so.
        limit = str((case.query or {}).get("limit", 1000))
        if limit.isdecimal() and 1 < int(limit) <= 1000:
            case.query = {**(case.query or {}), "limit": 1}
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if case.operation.label == "POST /api/messages" and isinstance(case.body, dict):
        # A key stands for one body for ever, and is given in the body or in the header.
        case.headers.pop("Idempotency-Key", None)
        case.body = {**case.body, "clientMessageId": str(uuid4())}
    if case.operation.label == "POST /api/console/messages" and isinstance(case.body, dict):
        case.body = {**case.body, "clientMessageId": str(uuid4())}
    if case.operation.label == _RECORDS and case.query:
        # One place at most, and only a log knows what its offsets are.
        for name in ("before", "at", *(["beginning"] if "time" in case.query else [])):
            case.query.pop(name, None)
    # A cursor comes from the page before.
    if case.query:
        case.query.pop("after", None)
    return case


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Close the answers, which the document leaves open for later versions: these are all."""
    for schema in raw_schema["components"]["schemas"].values():
        if schema.get("additionalProperties") is True and "properties" in schema:
            schema["additionalProperties"] = False
