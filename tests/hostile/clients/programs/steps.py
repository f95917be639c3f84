"""Read the requests that a client program has to make; print what it was answered.

Standard input holds one JSON array a line. The requests of one line are sent at once, the lines
one after the other. Each answer is printed as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Step", "failed", "report", "waves"]


class Step(NamedTuple):
    """One request. ``chunked``: without a length. ``expect``: with ``Expect: 100-continue``."""

    name: str
    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    chunked: bool
    expect: bool

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces, as a program does that makes it while it sends it."""
        body = self.body or b""
        half = len(body) // 2
        yield body[:half]
        yield body[half:]


def waves() -> Iterator[list[Step]]:
    """Yield the requests that are to be sent at once, group after group."""
    for line in sys.stdin:
        yield [_step(load) for load in json.loads(line)]


def report(step: Step, status: int, content_type: str | None, body: bytes) -> None:
    """Print an answer."""
    answer = {"name": step.name, "status": status, "type": content_type, "body": body.decode()}
    _print(answer)


def failed(step: Step, error: Exception) -> None:
    """Print what the client raised in place of an answer."""
    _print({"name": step.name, "error": f"{type(error).__name__}: {error}"})


def _print(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")  # one call: threads print too
    sys.stdout.flush()


def _step(one: dict[str, Any]) -> Step:
    body = one.get("body")
    return Step(
        name=one["name"],
        method=one["method"],
        url=one["url"],
        headers=one.get("headers", {}),
        body=None if body is None else body.encode() + b" " * one.get("pad", 0),
        chunked=one.get("chunked", False),
        expect=one.get("expect", False),
    )
