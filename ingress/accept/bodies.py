"""Read a request's body, never more of it than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from itertools import islice
from typing import Any

from ingress.accept.turns import Turns
from ingress.schema.problems import OVERLOADED, TIMED_OUT, TOO_LARGE, Problem
from ingress.web.asgi import Receive
from ingress.web.headers import Headers
from ingress.web.inflate import Inflater, coding_of

__all__ = ["Bodies", "Disconnected", "replayed"]

_DIGITS = 18
_STEPS_AT_ONCE = 2  # of inflating: enough for nearly every message


class Disconnected(Exception):  # noqa: N818 - what happened
    """The client went away before its body was complete: there is nobody to answer."""


class Bodies:
    """Reads bodies, and bounds what all half-read ones hold together."""

    def __init__(self, *, held_bytes: int, seconds: float) -> None:
        self._allowed = held_bytes
        self._seconds = seconds
        self._held = 0
        self._inflating = asyncio.Lock()
        self._turns = Turns()

    async def read(self, headers: Headers, receive: Receive, limit: int, name: str) -> bytes:
        """Return the body, at most ``limit`` bytes; ``name`` is the limit's setting.

        A compressed body is inflated; the limit holds for what it inflates to, and for what came.

        Raises:
            Problem: it is larger (told by its length where it has one, else while it comes), it
                did not come in time, too much is being read at once, or it is compressed in a way
                that is not taken here, or not as its headers say.
            Disconnected: the client is gone.
        """
        coding = coding_of(headers) if b"content-encoding" in headers else None
        body = await self._whole(headers, receive, limit, name)
        return body if coding is None else await self._inflated(coding, body, limit, name)

    async def _whole(self, headers: Headers, receive: Receive, limit: int, name: str) -> bytes:
        """Return the body as it came."""
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
                    raise _too_many()
        finally:
            self._held -= held

    async def _inflated(self, coding: bytes, body: bytes, limit: int, name: str) -> bytes:
        """Return what a body inflates to.

        Only one that is there as a whole is inflated, and only one at a time is inflated far: so
        a client that stalls, or many small bodies that stand for large ones, take no room from
        others.
        """
        held = 0

        def grown(by: int) -> None:
            nonlocal held
            held += by
            self._held += by
            if held > limit:
                raise _too_large(limit, name)
            if self._held > self._allowed:
                raise _too_many()

        inflater = Inflater(coding, grown)
        steps = inflater.take(body)
        try:
            pieces = [piece or b"" for piece in islice(steps, _STEPS_AT_ONCE)]
            if len(pieces) == _STEPS_AT_ONCE:
                async with self._inflating:
                    pieces += await self._turns.take(steps)
            inflater.end()
        finally:
            self._held -= held
        return b"".join(pieces)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body that was read, and then what comes after it."""
    left: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False}
    ]

    async def again() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return again


def _too_many() -> Problem:
    return Problem(
        OVERLOADED,
        "Too many large bodies are being sent at once.",
        headers={"Retry-After": "1", "Connection": "close"},
    )


def _too_large(limit: int, name: str) -> Problem:
    return Problem(
        TOO_LARGE,
        f"The body has more than {limit} bytes ({name}).",
        # What is left of the body is not read, so the connection can't be used again.
        headers={"Connection": "close"},
    )
