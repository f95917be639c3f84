"""Read a request's body, never more of it than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ingress.headers import Headers
from ingress.problems import OVERLOADED, TIMED_OUT, TOO_LARGE, Problem

__all__ = ["Bodies", "Disconnected", "Receive", "replayed"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_DIGITS = 18


class Disconnected(Exception):  # noqa: N818 - what happened
    """The client went away before its body was complete: there is nobody to answer."""


class Bodies:
    """Reads bodies, and bounds what all half-read ones hold together."""

    def __init__(self, *, held_bytes: int, seconds: float) -> None:
        self._allowed = held_bytes
        self._seconds = seconds
        self._held = 0

    async def read(self, headers: Headers, receive: Receive, limit: int, name: str) -> bytes:
        """Return the body, at most ``limit`` bytes; ``name`` is the limit's setting.

        Raises:
            Problem: it is larger (told by its length where it has one, else while it comes), it
                did not come in time, or too much is being read at once.
            Disconnected: the client is gone.
        """
        length = headers.get(b"content-length")
        if length is not None and (len(length) > _DIGITS or int(length) > limit):
            raise _too_large(limit, name)
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit, name)
        if not message.get("more_body", False):
            return body
        try:
            async with asyncio.timeout(self._seconds):
                return await self._rest(body, receive, limit, name)
        except TimeoutError as error:
            detail = f"The body was not complete within {self._seconds:g} s."
            raise Problem(TIMED_OUT, detail, headers={"Connection": "close"}) from error

    async def _rest(self, first: bytes, receive: Receive, limit: int, name: str) -> bytes:
        body = bytearray(first)
        held = len(first)
        self._held += held
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                chunk: bytes = message.get("body", b"")
                body += chunk
                held += len(chunk)
                self._held += len(chunk)
                if len(body) > limit:
                    raise _too_large(limit, name)
                if not message.get("more_body", False):
                    return bytes(body)
                if self._held > self._allowed:
                    raise Problem(
                        OVERLOADED,
                        "Too many large bodies are being sent at once.",
                        headers={"Retry-After": "1", "Connection": "close"},
                    )
        finally:
            self._held -= held


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body that was read, and then what comes after it."""
    left: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False}
    ]

    async def again() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return again


def _too_large(limit: int, name: str) -> Problem:
    return Problem(
        TOO_LARGE,
        f"The body has more than {limit} bytes ({name}).",
        # What is left of the body is not read, so the connection can't be used again.
        headers={"Connection": "close"},
    )
