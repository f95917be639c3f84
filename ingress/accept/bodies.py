"""Reading of request bodies, with limits of each body and of all bodies together."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from itertools import islice
from typing import Any, NamedTuple, Self

from ingress.accept.time_slices import TimeSlices
from ingress.schema.problems import OVERLOADED, TIMED_OUT, TOO_LARGE, Problem
from ingress.schema.retry_after import BUSY
from ingress.web.asgi import Receive
from ingress.web.digests import check_body, has_digest
from ingress.web.headers import Headers
from ingress.web.inflate import Inflater, coding_of

__all__ = ["Bodies", "BodyShare", "Disconnected", "replayed"]

_DIGITS = 18
_SMALL = 4096  # bytes of an incomplete body that is not refused for what the others hold
_STEPS_AT_ONCE = 2  # inflating steps without a lock: enough for nearly every message


class Disconnected(Exception):  # noqa: N818 - what happened
    """The client disconnected before its body was complete, so no answer is possible."""


class Bodies:
    """Reads bodies, and bounds the memory of all bodies that are being read.

    Args:
        held_bytes: The most bytes in memory of all bodies together.
        seconds: How long a body may take to come.
    """

    def __init__(self, *, held_bytes: int, seconds: float) -> None:
        self._allowed = held_bytes
        self._seconds = seconds
        self.held = 0
        """Bytes of all bodies that are being read, as they came and inflated."""
        self._inflating = asyncio.Lock()
        self._slices = TimeSlices()

    async def read(self, headers: Headers, receive: Receive, limit: int, name: str) -> bytes:
        """Return a request's body, inflated if it came compressed.

        Args:
            headers: The request's headers.
            receive: ASGI's ``receive``.
            limit: The most bytes of the body, as it came and inflated.
            name: The setting that has the limit, for the error's text.

        Raises:
            Problem: The body is too large (by its length if it has one, or else while it comes),
                did not come in time, has another digest than its headers say, has an unsupported or
                a wrong compression, or all bodies together are too large.
            Disconnected: The client is gone.
        """
        coding = coding_of(headers) if b"content-encoding" in headers else None
        with self.share() as share:
            body = await self._whole(headers, receive, _Limit(limit, name), share)
            if has_digest(headers):
                await check_body(headers, body)
            if coding is None:
                return body
            # From here on a body that came in one piece counts too: it waits for its turn, and may
            # be as large as a batch.
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
        if not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            limit.check(len(body))
            return body
        try:
            async with asyncio.timeout(self._seconds):
                return await self._rest(message, receive, limit, share)
        except TimeoutError as error:
            detail = f"The body was not complete within {self._seconds:g} s."
            raise Problem(TIMED_OUT, detail, headers={"Connection": "close"}) from error

    async def _rest(
        self,
        message: MutableMapping[str, Any],
        receive: Receive,
        limit: _Limit,
        share: BodyShare,
    ) -> bytes:
        """Return the body whose first piece is in ``message``."""
        body = bytearray()
        while message["type"] == "http.request":
            before = len(body)
            body += message.pop("body", b"")  # not held twice while the next piece is awaited
            share.take(len(body) - before)
            limit.check(len(body))
            if not message.get("more_body", False):
                return bytes(body)
            if len(body) > _SMALL:
                share.check()
            message = await receive()
        raise Disconnected

    async def _inflated(self, coding: bytes, body: bytes, limit: _Limit, share: BodyShare) -> bytes:
        """Inflate a whole body.

        Beyond the first steps, only one body at a time is inflated. So many small bodies that
        inflate to large ones take no memory from others, nor does a client that stalls, because
        inflating begins only when its body is complete.
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
                pieces += await self._slices.run(steps)
        inflater.end()
        return b"".join(pieces)

    def share(self) -> BodyShare:
        """Return the share of one more body, for a ``with`` block. Its end gives the bytes back."""
        return BodyShare(self)

    def check(self) -> None:
        """Check the limit of all bodies together.

        Raises:
            Problem: All bodies together hold more than ``held_bytes`` (503).
        """
        if self.held > self._allowed:
            raise Problem(
                OVERLOADED,
                "Too many large bodies are being sent at once.",
                headers={**BUSY, "Connection": "close"},
            )


class BodyShare:
    """The bytes that one body holds, as a part of the limit of all bodies."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.held -= self.size

    def take(self, size: int) -> None:
        """Add ``size`` bytes. A negative ``size`` gives bytes back."""
        self.size += size
        self._bodies.held += size

    def check(self) -> None:
        """Check the limit of all bodies together; see ``Bodies.check``."""
        self._bodies.check()


class _Limit(NamedTuple):
    """The largest size of one body in bytes, and the setting that has it."""

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
    """Return an ASGI ``receive`` that returns ``body`` once, then the events of ``receive``."""
    left: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False}
    ]

    async def again() -> MutableMapping[str, Any]:
        return left.pop() if left else await receive()

    return again
