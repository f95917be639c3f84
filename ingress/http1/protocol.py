"""One connection: its requests one after another, each by uvicorn's cycle and ASGI.

uvicorn's protocol parses all that comes at once, with httptools, which takes ``Upgrade`` for the
end of HTTP. Here :class:`~ingress.http1.parser.RequestParser` is asked for one event at a time, and
a request is begun when the one before it is answered: until then it is only bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingress.http1.answers import rendered
from ingress.http1.bounds import Bounds
from ingress.http1.cycle_transport import CycleTransport
from ingress.http1.parser import END, RequestParser
from ingress.http1.request_head import RequestHead
from ingress.problems import MALFORMED_REQUEST, Problem
from ingress.wire import problem_answer

__all__ = ["BoundedProtocol", "bounded_protocol"]

_EVENTS = 32  # of one connection in one turn of the loop, so that no client has it for long

_BODY_BYTES = 64 * 1024  # read and not yet taken by the application: uvicorn's mark
# Enough for a client to send the rest of the largest batch before it reads that it is refused.
_LINGER_SECONDS = 5.0
_LINGER_BYTES = 32 * 1024 * 1024


def bounded_protocol(bounds: Bounds) -> type[asyncio.Protocol]:
    """Return the protocol class for ``uvicorn.Config(http=...)`` that keeps to ``bounds``."""
    return type("BoundedProtocol", (BoundedProtocol,), {"bounds": bounds})


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a strict parser and bounds."""

    bounds: Bounds
    parser: RequestParser  # type: ignore[assignment]
    _advancing = False
    _lingering: asyncio.TimerHandle | None = None
    _discarded = 0
    _fresh = True  # nothing is buffered or begun: the next read begins a request

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self.bounds)

    # What comes.

    def data_received(self, data: bytes) -> None:
        """Take bytes and go as far as they lead."""
        if self._lingering is not None:
            self._discard(data)
            return
        self._unset_keepalive_if_required()
        self.parser.receive(data)
        self._advance()

    def _advance(self) -> None:
        """Go on with what is buffered, until bytes are missing or an answer has to come first."""
        if self.parser is None or self._ended:
            return
        self._advancing = True
        try:
            again = self._take_events()
        except Problem as problem:
            self.refuse(problem)
            return
        finally:
            self._advancing = False
        parser = self.parser
        self._fresh = parser.stage == "between"
        if again:
            self.flow.pause_reading()
            self.loop.call_soon(self._advance)
        elif parser.buffered and self._waits:
            self.flow.pause_reading()
        elif self.flow.read_paused:
            self._read_on()

    def _take_events(self) -> bool:
        """Return whether more may be there to take."""
        parser = self.parser
        for _ in range(_EVENTS):
            if self._waits:
                return False
            event = parser.next()
            if event is None:
                return False
            if isinstance(event, RequestHead):
                self._begin(event)
            elif event is END:
                self.on_message_complete()
            else:
                self.on_body(cast("bytes", event))
            if self._ended:
                return False
        return True

    def _begin(self, head: RequestHead) -> None:
        self.on_message_begin()
        self.url = head.target
        self.headers.extend(head.headers)
        self.expect_100_continue = head.expects_continue
        try:
            self.on_headers_complete()
        except httptools.HttpParserError as error:
            raise Problem(
                MALFORMED_REQUEST,
                "The request target is not one.",
                headers={"Connection": "close"},
            ) from error

    def on_headers_complete(self) -> None:
        """Begin the request in uvicorn, with a transport whose ``close`` lingers."""
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _Lent(self))

    def _read_on(self) -> None:
        body = getattr(self.cycle, "body", b"")
        if not self._busy or len(body) <= _BODY_BYTES:
            self.flow.resume_reading()

    @property
    def _busy(self) -> bool:
        """Whether a request was begun that is not answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _waits(self) -> bool:
        """Whether the next event is of a request that has to wait for another's answer."""
        return self._busy and self.parser.stage != "body"

    # What goes.

    def on_headers_complete(self) -> None:
        """Begin uvicorn's cycle, which closes by :meth:`close_answered`."""
        super().on_headers_complete()
        closing = CycleTransport(self.transport, self.close_answered)
        self.cycle.transport = cast("asyncio.Transport", closing)

    def close_answered(self) -> None:
        """Close after an answer, even one that was given before its request came to its end."""
        if self.parser is None or self._ended:
            return
        if self.parser.stage == "between":
            self.transport.close()
        else:
            self.linger()

    def on_response_complete(self) -> None:
        """Go on with what came while the answer was made."""
        if self._ended:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        self._go_on()

    def _go_on(self) -> None:
        if not self._fresh and not self._advancing:
            self.loop.call_soon(self._advance)

    def refuse(self, problem: Problem) -> None:
        """Answer what is not a request, and close: where the next one begins can't be known."""
        cycle = self.cycle
        if self._busy:
            begun = getattr(cycle, "response_started", False)
            cycle.disconnected = True
            cycle.message_event.set()
            if begun:
                self.linger()
                return
        self.transport.write(rendered(problem_answer(problem, None)))
        self.linger()

    def linger(self) -> None:
        """Close for writing, and read over what comes for a while.

        A connection closed with bytes unread is reset, and the client may never see its answer.
        """
        self._fresh = False
        if self._ended:
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._lingering = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()

    @property
    def _ended(self) -> bool:
        return self._lingering is not None or self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)


class _Lent:
    """A transport as uvicorn's cycle uses it."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing

    def close(self) -> None:
        self._protocol.linger()
