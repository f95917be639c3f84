"""What every generated client does, and what it must have understood.

A program is given the address, an API key and the name of a conversation of its own. It does the
same in each language, with the client's own types, and prints what it understood as JSON.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

__all__ = ["LETTER", "check"]

LETTER = 3_000_000_000
"""The number of the dead letter that there is: more than 32 bits hold."""
_PROBLEMS = "/problems/"


def check(printed: str) -> None:
    """Hold what a program printed against what it was answered."""
    said: dict[str, Any] = json.loads(printed)
    _check_messages(said)
    _check_refusals(said)
    # Five messages, of pages of two; the last page is half full.
    assert said["pages"] == [["1", "2"], ["3", "4"], ["5"]]
    assert said["letter"] == {"id": LETTER, "reason": "undecodable", "state": "pending"}
    assert said["preview"] == 1


def _check_messages(said: dict[str, Any]) -> None:
    first, repeat = said["first"], said["repeat"]
    assert (first["state"], first["hit"]) == ("pending", False)
    assert repeat["hit"] is True
    assert repeat["id"] == first["id"]
    assert _moment(repeat["at"]) == _moment(first["at"])
    assert said["receipt"] == {"state": "read", "hit": False}
    assert said["receipts"] == [{"user": "reader", "state": "read"}]
    assert said["batch"] == [
        {"kind": "ack", "status": 202},
        {"kind": "problem", "status": 422, "field": "content"},
        {"kind": "ack", "status": 202},
    ]


def _check_refusals(said: dict[str, Any]) -> None:
    conflict = said["conflict"]
    assert conflict["status"] == 422
    assert conflict["type"] == f"{_PROBLEMS}idempotency-conflict"
    assert conflict["title"]
    assert conflict["detail"]
    assert conflict["correlationId"]
    assert said["invalid"] == {"status": 422, "field": "content", "remedy": True}
    assert said["missing"] == {"status": 404, "type": f"{_PROBLEMS}not-found"}
    assert said["keyless"] == 401


def _moment(text: str) -> datetime:
    # Some languages keep milliseconds only, and each writes a time in its own way.
    moment = datetime.fromisoformat(text)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
