"""One connection: its requests one after another, each by uvicorn's cycle and ASGI.

uvicorn's protocol parses all that comes at once, with httptools, which takes ``Upgrade`` for the
end of HTTP. Here :class:`~ingress.http1.parser.RequestParser` is asked for one event at a time, and
a request is begun when the one before it is answered: until then it is only bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ingress.http1.answers import rendered
from ingress.http1.bounds import Bounds
from ingress.http1.connections import Connections
from ingress.http1.cycle_transport import CycleTransport
from ingress.http1.http2 import REFUSAL, Http2RefusedError
from ingress.http1.kernel import has_unread, unsent
from ingress.http1.parser import END, RequestParser
from ingress.http1.request_head import RequestHead
from ingress.schema.problems import MALFORMED_REQUEST, TIMED_OUT, TOO_MANY_CONNECTIONS, Problem
from ingress.web.asgi import problem_answer

__all__ = ["BoundedProtocol", "bounded_protocol"]

_EVENTS = 32  # of one connection in one turn of the loop, so that no client has it for long

_BODY_BYTES = 64 * 1024  # read and not yet taken by the application: uvicorn's mark
# Enough for a client to send the rest of the largest batch before it reads that it is refused.
_LINGER_SECONDS = 5.0
_LAST_REQUEST_SECONDS = 0.25
_LINGER_BYTES = 32 * 1024 * 1024
_BODY_GRACE = 1.0  # seconds; a route that has the same limit answers first
_HEALTH_SECONDS = 2.0  # for the head on a connection that may ask for health only
_HEALTH = (b"/healthz", b"/readyz")
_SLOWEST = 1024  # bytes a second that an answer has to be read at, once its time is up
_FREE_BYTES = 4096  # of an incomplete head, that are not counted: nearly every head is shorter


def bounded_protocol(bounds: Bounds, ended: Counter) -> type[asyncio.Protocol]:
    """Return the protocol class for ``uvicorn.Config(http=...)`` that keeps to ``bounds``.

    ``ended`` counts the connections that the service ends, by reason.
    """
    own = {"bounds": bounds, "open_ones": Connections(bounds, ended)}
    return type("BoundedProtocol", (BoundedProtocol,), own)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a strict parser and bounds."""

    bounds: Bounds
    open_ones: Connections
    parser: RequestParser  # type: ignore[assignment]
    address = ""
    held = 0
    _advancing = False
    _fresh = False  # nothing is buffered or begun or unread: the next read begins a request
    _health_only = False
    _stage = "between"
    _since = 0.0  # of the stage; or of the last answer, or of the end of writing
    _unread: tuple[float, int] | None = None  # since when bytes were always unread; bytes read then
    written = 0  # by uvicorn's cycles, in bytes
    _lingering = False
    _discarded = 0
    leaving = False  # of the process or the connection: each answer is the last on its connection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = RequestParser(self.bounds)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take its place among the others."""
        super().connection_made(transport)
        self._since = self.loop.time()
        if self.client is not None:
            self.address = self.client[0]
        self._health_only = not self.open_ones.add(self)
        self._fresh = not self._health_only

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place up."""
        self.open_ones.remove(self)
        super().connection_lost(exc)

    # What comes.

    def data_received(self, data: bytes) -> None:
        """Take bytes and go as far as they lead."""
        if self._lingering:
            self._discard(data)
            return
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
        if self._ended:
            return
        self._note()
        if again:
            self.flow.pause_reading()
            self.loop.call_soon(self._advance)
        elif self._waits and (self.parser.buffered or self.flow.write_paused):
            self.flow.pause_reading()
        elif self.flow.read_paused:
            self._read_on()

    def _note(self) -> None:
        """Note what is waited for, where a request did not come whole."""
        stage: str = self.parser.stage
        if stage == "head" and self._waits:
            stage = "waiting"
        if stage != self._stage:
            self._stage = stage
            self._since = self.loop.time()
        buffered = self.parser.buffered
        self._fresh = not (stage != "between" or self._health_only or self.flow.write_paused)
        if self.held or buffered > _FREE_BYTES:
            self.open_ones.hold(self, max(0, buffered - _FREE_BYTES))

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
                self._stage = ""
                self.on_message_complete()
            else:
                self.on_body(cast("bytes", event))
            if self._ended:
                return False
        return True

    def _begin(self, head: RequestHead) -> None:
        if self._health_only and head.target.partition(b"?")[0] not in _HEALTH:
            raise _too_many()
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
        lent = CycleTransport(self.transport, write=self._write_counted, close=self.linger)
        self.cycle.transport = cast("asyncio.Transport", lent)
        if self._health_only or self.leaving:
            self.cycle.keep_alive = False

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
        """Whether the next event is of a request that has to wait: for an answer, or its reader."""
        return (self._busy or self.flow.write_paused) and self.parser.stage != "body"

    # What goes.

    def on_response_complete(self) -> None:
        """Go on with what came while the answer was made.

        As uvicorn's, which has a pipeline, and sets a timer for each answer.
        """
        self.server_state.total_requests += 1
        if self._ended:
            return
        self._since = self.loop.time()
        if self.flow.read_paused or not self._fresh:
            self._go_on()

    def _write_counted(self, data: bytes) -> None:
        self.written += len(data)
        self.transport.write(data)

    def _go_on(self) -> None:
        if not self._advancing:
            self.loop.call_soon(self._advance)

    def pause_writing(self) -> None:
        """Take no more requests from a client that does not read its answers."""
        super().pause_writing()
        self._fresh = False
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        self._unread = None  # it read some 48 KiB
        self._go_on()

    def refuse(self, problem: Problem) -> None:
        """Answer what is not a request, and close: where the next one begins can't be known."""
        self.open_ones.ended.labels(problem.kind.name).inc()
        cycle = self.cycle
        if self._busy:
            begun = getattr(cycle, "response_started", False)
            cycle.disconnected = True
            cycle.message_event.set()
            if begun:
                self.linger()
                return
        if isinstance(problem, Http2RefusedError):
            self._write_counted(REFUSAL)
        else:
            self._write_counted(rendered(problem_answer(problem, None)))
        self.linger()

    def linger(self) -> None:
        """Close for writing, and read over what comes for a while.

        A connection closed with bytes unread is reset, and the client may never see its answer.
        """
        self._fresh = False
        if self._ended:
            return
        self._lingering = True
        self._since = self.loop.time()
        self.open_ones.hold(self, 0)
        self.transport.write_eof()
        self.flow.resume_reading()

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > _LINGER_BYTES:
            self.transport.abort()

    # The end of the process.

    def shutdown(self) -> None:
        """Close after the answer under way; where there is none, after one more, for a moment.

        A proxy may send its next request on a connection that is idle until now. Closed at the same
        time, that is an error to it, and POST is a request that it may not send again.
        """
        self.leaving = True
        if self._busy:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(_LAST_REQUEST_SECONDS, self._close_unless_busy)

    def _close_unless_busy(self) -> None:
        if not self._busy:
            self.transport.close()

    @property
    def _ended(self) -> bool:
        return self._lingering or self.transport.is_closing()

    # What waits.

    def check(self, now: float) -> None:
        """End it if it waits too long for the client."""
        if self._is_unread(now):
            self.open_ones.ended.labels("unread").inc()
            self.transport.abort()
        elif self._lingering:
            if self._unread is not None:
                self._since = now
            elif now - self._since > _LINGER_SECONDS:
                self.transport.abort()
        elif not self.transport.is_closing():
            self._check_stage(now - self._since)

    def _check_stage(self, waited: float) -> None:
        bounds = self.bounds
        if self._stage == "body":
            if waited > bounds.body_seconds + _BODY_GRACE:
                self._late(f"The body was not complete within {bounds.body_seconds:g} s.")
        elif self._busy or self._stage == "waiting":
            pass  # it is the client who waits
        elif self._stage == "between" and self.cycle is not None:
            if waited > self.timeout_keep_alive and not has_unread(self.transport):
                self.transport.close()
        elif waited > self._head_seconds:
            if self._stage == "head":
                self._late(f"The head was not complete within {self._head_seconds:g} s.")
            else:
                self.open_ones.ended.labels("silent").inc()
                self.transport.close()

    @property
    def _head_seconds(self) -> float:
        seconds = self.bounds.head_seconds
        return min(seconds, _HEALTH_SECONDS) if self._health_only else seconds

    def _late(self, detail: str) -> None:
        if self._stage == "body" and not self._busy:
            self.linger()  # it is answered, and its body goes on
        else:
            self.refuse(Problem(TIMED_OUT, detail, headers={"Connection": "close"}))

    def _is_unread(self, now: float) -> bool:
        """Tell whether the client leaves an answer unread for too long."""
        pending = self.transport.get_write_buffer_size()
        if not pending:
            self._unread = None
            return False
        read = self.written - pending - unsent(self.transport)
        if self._unread is None:
            self._unread = now, read
        since, before = self._unread
        waited = now - since
        if waited < self.bounds.write_seconds:
            return False
        if read - before < _SLOWEST * waited:
            return True
        self._unread = now, read
        return False

    # What the other connections ask, where there are too many.

    def idle_since(self) -> float | None:
        """Return since when it could be closed without loss; ``None`` if it could not."""
        if self._lingering:
            return self._since
        if self._busy or self._stage == "body":
            return None
        # What is idle and has sent something since is about to be served.
        return None if self._stage == "between" and has_unread(self.transport) else self._since

    def end(self) -> None:
        """Close it at once."""
        self.transport.abort()

    def turn_away(self) -> None:
        """Answer that there are too many, and close."""
        if not self._ended:
            self.open_ones.ended.labels(TOO_MANY_CONNECTIONS.name).inc()
            if not self._busy:
                self.transport.write(rendered(problem_answer(_too_many(), None)))
        self.transport.close()


def _too_many() -> Problem:
    return Problem(
        TOO_MANY_CONNECTIONS,
        "The connections that there may be are taken (INGRESS_MAX_CONNECTIONS).",
        headers={"Retry-After": "1", "Connection": "close"},
    )
