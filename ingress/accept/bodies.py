"""Read a request's body, never more of it than is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from itertools import islice
from typing import Any, NamedTuple, Self

from ingress.accept.turns import Turns
from ingress.schema.problems import OVERLOADED, TIMED_OUT, TOO_LARGE, Problem
from ingress.web.asgi import Receive
from ingress.web.digests import check_body, has_digest
from ingress.web.headers import Headers
from ingress.web.inflate import Inflater, coding_of

__all__ = ["Bodies", "BodyShare", "Disconnected", "replayed"]

_DIGITS = 18
_STEPS_AT_ONCE = 2  # of inflating: enough for nearly every message


class Disconnected(Exception):  # noqa: N818 - what happened
    """The client disconnected before its body was complete, so no answer is possible."""


class Bodies:
    """Reads bodies, and bounds the memory of all bodies that are being read.

    Args:
        held_bytes: How many bytes they may hold.
        seconds: How long a body may take to come.
    """

    def __init__(self, *, held_bytes: int, seconds: float) -> None:
        self._allowed = held_bytes
        self._seconds = seconds
        self.held = 0
        """Bytes of all bodies that are being read: those that came, and what they inflate to."""
        self._inflating = asyncio.Lock()
        self._turns = Turns()

    async def read(self, headers: Headers, receive: Receive, limit: int, name: str) -> bytes:
        """Return a request's body, inflated if it came compressed.

        Args:
            headers: Of the request.
            receive: ASGI's.
            limit: Bytes that the body may have, as it came and inflated.
            name: The setting that the limit is, for the answer.

        Raises:
            Problem: The body is too large (by its length if it has one, or else while it comes),
                did not come in time, has another digest than its headers say, is compressed in a
                way that is not taken here or not as its headers say, or too much is being read at
                once.
            Disconnected: The client is gone.
        """
        coding = coding_of(headers) if b"content-encoding" in headers else None
        with self.share() as share:
            body = await self._whole(headers, receive, _Limit(limit, name), share)
            if has_digest(headers):
                await check_body(headers, body)
            if coding is None:
                return body
            # It waits here for its turn, and is as large as a batch may be.
            share.take(len(body) - share.size)
            share.check()
            return await self._inflated(coding, body, _Limit(limit, name), share)

    async def _whole(
        self, headers: Headers, receive: Receive, limit: _Limit, share: BodyShare
    ) -> bytes:
        """Return the body as it came."""
        length = headers.get(b"content-length")
        if length is not None and (len(length) > _DIGITS or int(length) > limit.size):
            raise limit.passed()
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        body: bytes = message.get("body", b"")
        limit.check(len(body))
        if not message.get("more_body", False):
            return body
        try:
            async with asyncio.timeout(self._seconds):
                return await self._rest(body, receive, limit, share)
        except TimeoutError as error:
            detail = f"The body was not complete within {self._seconds:g} s."
            raise Problem(TIMED_OUT, detail, headers={"Connection": "close"}) from error

    async def _rest(self, first: bytes, receive: Receive, limit: _Limit, share: BodyShare) -> bytes:
        body = bytearray(first)
        share.take(len(first))
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            piece: bytes = message.get("body", b"")
            body += piece
            share.take(len(piece))
            limit.check(len(body))
            if not message.get("more_body", False):
                return bytes(body)
            share.check()

    async def _inflated(self, coding: bytes, body: bytes, limit: _Limit, share: BodyShare) -> bytes:
        """Inflate a body.

        Only a whole body is inflated, and only one at a time is inflated far. So a client that
        stalls takes no room from others, nor do many small bodies that stand for large ones.
        """
        size = 0

        def grown(by: int) -> None:
            nonlocal size
            size += by
            share.take(by)
            limit.check(size)
            share.check()

        inflater = Inflater(coding, grown)
        steps = inflater.take(body)
        pieces = [piece or b"" for piece in islice(steps, _STEPS_AT_ONCE)]
        if len(pieces) == _STEPS_AT_ONCE:
            async with self._inflating:
                pieces += await self._turns.take(steps)
        inflater.end()
        return b"".join(pieces)

    def share(self) -> BodyShare:
        """Return the share of one more body; it is given back where its ``with`` block ends."""
        return BodyShare(self)

    def check(self) -> None:
        """Refuse if there is no room.

        Raises:
            Problem: All bodies together hold more than they may.
        """
        if self.held > self._allowed:
            raise Problem(
                OVERLOADED,
                "Too many large bodies are being sent at once.",
                headers={"Retry-After": "1", "Connection": "close"},
            )


class BodyShare:
    """The bytes that one body holds, of those that all bodies may hold together."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.held -= self.size

    def take(self, size: int) -> None:
        """Add ``size`` bytes; of a negative one, give them back."""
        self.size += size
        self._bodies.held += size

    def check(self) -> None:
        """Refuse if there is no room; see ``Bodies``."""
        self._bodies.check()


class _Limit(NamedTuple):
    """How large one body may be."""

    size: int
    name: str

    def check(self, size: int) -> None:
        if size > self.size:
            raise self.passed()

    def passed(self) -> Problem:
        return Problem(
            TOO_LARGE,
            f"The body has more than {self.size} bytes ({self.name}).",
            # The rest of the body is not read, so the connection can't be used again.
            headers={"Connection": "close"},
        )


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body that was read, then the events after it."""
    left: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False}
    ]

    async def again() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return again
