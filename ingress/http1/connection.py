"""One client's connection. It serves requests one after another, within the limits.

A ``RequestParser`` makes events of the bytes, one at a time. A request that has come as a whole is
offered to the hot path; every other request becomes an ``AsgiRequest``. The next request begins
when the one before it is answered; until then it stays in the buffer, unparsed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from ingress.http1.answer_writer import AnswerWriter
from ingress.http1.answers import rendered
from ingress.http1.asgi_request import AsgiRequest, scope_of
from ingress.http1.http2 import REFUSAL, Http2RefusedError
from ingress.http1.kernel import has_unread, is_reset
from ingress.http1.lingering_close import LingeringClose
from ingress.http1.parser import END, RequestParser
from ingress.http1.request_head import RequestHead
from ingress.schema.problems import TIMED_OUT, TOO_MANY_CONNECTIONS, Problem
from ingress.schema.retry_after import BUSY
from ingress.web.asgi import problem_answer

if TYPE_CHECKING:
    from ingress.http1.listener import Listener

__all__ = ["Exchange", "HotPath", "HttpConnection"]

_EVENTS = 32  # of one connection in one turn of the event loop, so that other clients get theirs
_LAST_REQUEST_SECONDS = 0.25
_BODY_GRACE = 1.0  # seconds beyond the body's limit, so that a route with that limit answers first
_HEALTH_SECONDS = 2.0  # for the head, on a connection that may ask for health only
_HEALTH = (b"/healthz", b"/readyz")
_FREE_BYTES = 4096  # buffered bytes that are not counted: nearly every head is shorter


class Exchange(Protocol):
    """A request that is not answered yet."""

    keep_alive: bool
    """Whether the connection takes another request after this one."""

    @property
    def started(self) -> bool:
        """Whether a part of the answer was sent."""

    def disconnect(self) -> None:
        """Record that the client is gone."""


class HotPath(Protocol):
    """Serves some requests without ASGI, if the whole request has come."""

    def take(self, connection: HttpConnection, data: bytes) -> bool:
        """Serve ``data`` if it is one whole request for the hot path; return whether it is."""

    def wants(self, head: RequestHead) -> bool:
        """Return whether the hot path serves requests with this head, once the body has come."""

    def serve(self, connection: HttpConnection, head: RequestHead, body: bytes) -> bool:
        """Serve a request that ``wants`` accepted; return ``False`` to leave it to ASGI."""


class HttpConnection(asyncio.Protocol):
    """One client's connection.

    Args:
        listener: Has the limits, the hot path and the port's other connections.
        config: uvicorn's configuration; has the application.
        server_state: uvicorn's list of connections and tasks that a stop waits for.
        app_state: The lifespan's state; each request's scope gets a copy.
    """

    def __init__(
        self,
        listener: Listener,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.listener = listener
        self.bounds = listener.bounds
        self._app = config.loaded_app
        self._app_state = app_state
        self._server_state = server_state
        self._hot_path = listener.hot_path
        self._parser = RequestParser(listener.bounds)
        self.address = ""
        """The client's address, without its port."""
        self.held = 0
        """Bytes in memory: unparsed ones, beyond the first 4 KiB, and unread answers."""
        self._unparsed = 0  # those that are not parsed
        self._exchange: Exchange | None = None  # the request that waits for its answer
        self._reading: AsgiRequest | None = None  # the request whose body is being read
        self._served = False  # at least one request was answered
        self._advancing = False
        # Nothing is buffered, unread or begun: the next read may be one whole request.
        self._fresh = False
        self._health_only = False
        self._last = False  # the next answer is the last one on this connection
        self._stage = "between"  # the parser's stage; or "waiting": a head waits for an answer
        self._since = 0.0  # when the stage began, the last answer was sent, or writing ended
        self._read_paused = False
        self._half_closed = False  # the client has closed its sending side
        self._streaming = False  # the answer under way has no length
        self._lingering: LingeringClose | None = None  # since our writing side is closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection; beyond the limit it may ask for health only."""
        self._transport = cast("asyncio.Transport", transport)
        self.writer = AnswerWriter(self._transport, self._count_held)
        self._since = self.loop.time()
        self._client = _address(transport.get_extra_info("peername"))
        if self._client is not None:
            self.address = self._client[0]
        self._server_state.connections.add(self)  # type: ignore[arg-type]
        self._health_only = self._last = not self.listener.connections.add(self)
        self._fresh = self._is_fresh()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Remove the connection, and tell the request under way that its client is gone."""
        self.listener.connections.remove(self)
        self._server_state.connections.discard(self)
        if self._exchange is not None:
            self._exchange.disconnect()
        self._exchange = self._reading = None  # cleared to avoid reference cycles
        self.writer.resume()

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Take bytes, and serve the requests that they complete."""
        if self._fresh and self._exchange is None:
            if self._hot_path is not None and self._hot_path.take(self, data):
                return
        elif self._lingering:
            if not self._lingering.discard(len(data)):
                self._transport.abort()
            return
        self._parser.receive(data)
        self._advance()

    def eof_received(self) -> bool:
        """Answer the requests that have come as a whole, then close the connection.

        A client that closes only its sending side (``nc -N``) and a client that closes its
        connection look the same: both send FIN, and only the second resets the connection when an
        answer comes. So both are answered, and the second keeps its connection only until the
        requests that it sent are answered. A stream may have no end, and nothing to write for a
        while, so it ends with its client's FIN.

        Returns:
            Whether the connection stays open for writing.
        """
        self._half_closed = True
        self._fresh = False
        if self._lingering or self._streaming:
            return False
        if self._exchange is not None and self._is_last:
            self._exchange.keep_alive = False
        self._advance()
        return not self._transport.is_closing()

    def _advance(self) -> None:
        """Parse and serve buffered bytes, until more are needed or an answer has to come first."""
        if self._ended:
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
            self.pause_reading()
            self.loop.call_soon(self._advance)
        elif self._half_closed:
            if not self._waits:
                self._transport.close()  # the rest of an incomplete request will never come
        elif self._waits and (self._parser.buffered or self.writer.paused):
            self.pause_reading()
        elif self._read_paused and not (self._reading is not None and self._reading.is_full):
            self.resume_reading()

    def _note(self) -> None:
        """Record which part of a request is awaited, and count the buffered bytes."""
        stage: str = self._parser.stage
        if stage == "head" and self._waits:
            stage = "waiting"
        if stage != self._stage:
            self._stage = stage
            self._since = self.loop.time()
        self._fresh = self._is_fresh()
        buffered = self._parser.buffered
        if self._unparsed or buffered > _FREE_BYTES:
            self._unparsed = max(0, buffered - _FREE_BYTES)
            self._count_held()

    def _count_held(self) -> None:
        self.listener.connections.hold(self, self._unparsed + self.writer.held)

    def _is_fresh(self) -> bool:
        if self._health_only or self._half_closed or self.writer.paused:
            return False
        return self._stage == "between"

    def _take_events(self) -> bool:
        """Handle up to 32 events of the parser; return whether more may be there."""
        parser = self._parser
        for _ in range(_EVENTS):
            if self._waits:
                return False
            event = parser.next()
            if event is None:
                return False
            if isinstance(event, RequestHead):
                self._begin_request(event)
            elif event is END:
                self._stage = ""
                if self._reading is not None:
                    self._reading.end()
                    self._reading = None
            elif self._reading is not None:
                self._reading.feed(cast("bytes", event))
                if self._exchange is not None:
                    # The time limit begins again: the route has a limit for the whole body, and
                    # for a form limits of silence and of the rate.
                    self._since = self.loop.time()
            if self._ended:
                return False
        return True

    def _begin_request(self, head: RequestHead) -> None:
        if self._health_only and head.target.partition(b"?")[0] not in _HEALTH:
            raise _too_many()
        hot_path, body = self._hot_path, None
        if hot_path is not None and hot_path.wants(head):
            body = self._parser.whole_body()
            if body is not None and hot_path.serve(self, head, body):
                return
        scope = scope_of(head)
        request = AsgiRequest(self, head)
        self.begin(request)
        scope["client"] = self._client
        scope["server"] = _address(self._transport.get_extra_info("sockname"))
        scope["state"] = self._app_state.copy()
        if body is None:
            self._reading = request
        else:
            request.feed(body)
            request.end()
        tasks = self._server_state.tasks
        task = self.loop.create_task(request.run(self._app, scope))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def begin(self, exchange: Exchange) -> None:
        """Record that ``exchange`` waits for its answer."""
        if self._is_last:
            exchange.keep_alive = False
        self._exchange = exchange

    def begin_stream(self) -> None:
        """Record that the answer has no length; close if the client has closed its sending side."""
        self._streaming = True
        if self._half_closed:
            self._transport.close()

    @property
    def _is_last(self) -> bool:
        """Whether the current request is the last one of the connection."""
        if self._last or self.listener.leaving:
            return True
        return self._half_closed and not self._parser.buffered

    @property
    def _waits(self) -> bool:
        """Whether the next request has to wait, for an answer or for a client that reads slowly."""
        waits = self._exchange is not None or self.writer.paused
        return waits and self._parser.stage != "body"

    def pause_reading(self) -> None:
        """Stop reading. The kernel buffers further bytes, then holds the client back."""
        if not (self._read_paused or self._half_closed):
            self._read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the client again."""
        if self._read_paused and not self._half_closed:
            self._read_paused = False
            self._transport.resume_reading()

    # Writing.

    def common_headers(self) -> bytes:
        """Return the header lines that every answer has: ``Date``, which uvicorn keeps."""
        return self.listener.header_lines(self._server_state.default_headers)

    def finish(self, exchange: Exchange) -> None:
        """Go on after a whole answer: serve the next request, or close the connection."""
        self._exchange = None
        self._streaming = False
        self._served = True
        self._server_state.total_requests += 1
        if not exchange.keep_alive:
            self.linger()
            return
        if self._ended:
            return
        self._since = self.loop.time()
        if self._read_paused or not self._fresh:
            self._go_on()

    def _go_on(self) -> None:
        if not self._advancing:
            self.loop.call_soon(self._advance)

    def pause_writing(self) -> None:
        """Begin no more requests: the client does not read its answers fast enough."""
        self.writer.pause()
        self._fresh = False
        self.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the client has read, and the write buffer has room again."""
        self.writer.resume()
        self._go_on()

    def refuse(self, problem: Problem) -> None:
        """Answer with ``problem``, and close the connection.

        After a malformed request, nobody can tell where the next one begins.
        """
        self.listener.connections.ended.labels(problem.kind.name).inc()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()
        if exchange is None or not exchange.started:
            http2 = isinstance(problem, Http2RefusedError)
            self.writer.write(REFUSAL if http2 else rendered(problem_answer(problem, None)))
        self.linger()

    def linger(self) -> None:
        """Close the writing side; go on reading for a while, and discard the bytes.

        A connection that is closed with bytes unread is reset, and the client may never see its
        answer. If the client has closed its sending side, nothing is unread, and the connection is
        closed at once.
        """
        self._fresh = False
        if self._ended:
            return
        self._unparsed = 0
        self._count_held()
        if self._half_closed:
            self._transport.close()
            return
        seconds = self.bounds.body_seconds if self._parser.stage == "body" else 0.0
        self._lingering = LingeringClose(self.loop.time(), body_seconds=seconds)
        self._transport.write_eof()
        self.resume_reading()

    # The end of the process.

    def shutdown(self) -> None:
        """Close after the answer under way.

        An idle connection stays open for 0.25 s, and takes one more request in that time. A proxy
        may be sending a request on it just now: if the connection closes under that request, the
        proxy sees an error, and it may not send a POST again.
        """
        self._last = True
        if self._exchange is not None:
            self._exchange.keep_alive = False
        else:
            self.loop.call_later(_LAST_REQUEST_SECONDS, self._close_unless_busy)

    def _close_unless_busy(self) -> None:
        if self._exchange is None:
            self._transport.close()

    @property
    def _ended(self) -> bool:
        return self._lingering is not None or self._transport.is_closing()

    # Time limits.

    def check(self, now: float) -> None:
        """Close the connection if it has waited too long for the client."""
        if self.writer.is_stuck(now, self.bounds.write_seconds):
            self.listener.connections.ended.labels("unread").inc()
            self._transport.abort()
        elif self._lingering:
            if self.writer.is_unread:
                self._lingering.begin_again(now)
            elif self._lingering.is_over(now):
                self._transport.abort()
        elif self._half_closed:
            if is_reset(self._transport):  # the event loop does not read, so it does not notice
                self._transport.abort()
        elif not self._transport.is_closing():
            self._check_stage(now - self._since)

    def _check_stage(self, waited: float) -> None:
        bounds = self.bounds
        if self._stage == "body":
            if waited > bounds.body_seconds + _BODY_GRACE:
                self._end_late(f"The body was not complete within {bounds.body_seconds:g} s.")
        elif self._exchange is not None or self._stage == "waiting":
            pass  # the client waits for us
        elif self._stage == "between" and self._served:
            if waited > bounds.idle_seconds and not has_unread(self._transport):
                self._transport.close()
        elif waited > self._head_seconds:
            if self._stage == "head":
                self._end_late(f"The head was not complete within {self._head_seconds:g} s.")
            else:
                self.listener.connections.ended.labels("silent").inc()
                self._transport.close()

    @property
    def _head_seconds(self) -> float:
        seconds = self.bounds.head_seconds
        return min(seconds, _HEALTH_SECONDS) if self._health_only else seconds

    def _end_late(self, detail: str) -> None:
        if self._stage == "body" and self._exchange is None:
            self.linger()  # the request is answered already, and its body still comes
        else:
            self.refuse(Problem(TIMED_OUT, detail, headers={"Connection": "close"}))

    # Called by ``Connections`` at a limit.

    @property
    def is_unread(self) -> bool:
        """Whether an answer waits for the client to read."""
        return self.writer.paused

    def idle_since(self) -> float | None:
        """Return since when the connection is idle, or ``None`` if closing it loses something."""
        if self._lingering:
            return self._lingering.since
        if self._exchange is not None or self._stage == "body":
            return None
        # An idle connection that has sent something since is about to be served.
        return None if self._stage == "between" and has_unread(self._transport) else self._since

    def end(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def turn_away(self) -> None:
        """Answer 503 (too many connections), and close."""
        if not self._ended:
            self.listener.connections.ended.labels(TOO_MANY_CONNECTIONS.name).inc()
            if self._exchange is None:
                self._transport.write(rendered(problem_answer(_too_many(), None)))
        self._transport.close()


def _address(name: Any) -> tuple[str, int] | None:
    """Return host and port of a socket's address; ``None`` for a socket that has neither."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _too_many() -> Problem:
    return Problem(
        TOO_MANY_CONNECTIONS,
        "All connections are in use (INGRESS_MAX_CONNECTIONS).",
        headers={**BUSY, "Connection": "close"},
    )
