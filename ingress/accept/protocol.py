"""The fast door: ``POST /api/messages`` answered by the HTTP protocol itself, without ASGI.

uvicorn's cycle of one task, two events and four dictionaries a request costs as much as everything
else that accepting a message takes (26 of 50 microseconds). So when a whole ``POST /api/messages``
arrives in one read, which is how nearly all do, this protocol takes the steps of
:class:`~ingress.accept.post_message.PostMessage` itself and writes the answer when the group commit
has it.

Everything else goes to the ASGI door, untouched: other routes, bodies that come in pieces or
compressed, ``Expect`` and HTTP/1.0. So nothing is decided here that the ASGI door decides
otherwise, and the same tests run through both.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import structlog
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from ingress.accept.header_cache import RequestHeadCache
from ingress.accept.post_message import MESSAGES, PostMessage
from ingress.accept.submission import Submission
from ingress.http1.answers import STATUS_LINES
from ingress.http1.bounds import Bounds
from ingress.http1.connections import Connections
from ingress.http1.protocol import BoundedProtocol
from ingress.http1.request_head import parse
from ingress.schema.problems import INTERNAL, Problem
from ingress.web.asgi import Answer, problem_answer
from ingress.web.headers import Headers, correlation_id
from otel.tracing.requests import CLIENT_GONE, RequestTrace

__all__ = ["message_protocol"]

_log = structlog.get_logger(__name__)

_PATH = MESSAGES.encode()
_LINE = b"POST %b HTTP/1.1\r\n" % _PATH
_HEAD_END = b"\r\n\r\n"
_CODED = b"content-encoding"


def message_protocol(post: PostMessage, bounds: Bounds, ended: Counter) -> type[BoundedProtocol]:
    """Return the protocol class for ``uvicorn.Config(http=...)`` that serves ``post``.

    ``ended`` counts the connections that the service ends, by reason.
    """
    own = {
        "post": post,
        "bounds": bounds,
        "heads": RequestHeadCache(),
        "open_ones": Connections(bounds, ended),
    }
    return type("MessageProtocol", (_MessageProtocol,), own)


class _Never:
    """Stands where uvicorn keeps the event that wakes its ASGI task: here is no task to wake."""

    def set(self) -> None:
        """Do nothing."""


class _Exchange:
    """What uvicorn's protocol asks of the request under way; it serves as its ``cycle``."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")
    message_event = _Never()

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False


class _MessageProtocol(BoundedProtocol):
    post: PostMessage
    heads: RequestHeadCache
    _taken = False  # the request being parsed is ours, and not yet whole
    _body = b""
    _common: tuple[list[tuple[bytes, bytes]] | None, bytes] = (None, b"")

    # What the parser finds, in the order in which it does.

    def on_message_begin(self) -> None:
        # The base class's comes when it is known that the request is not ours.
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        parser = self.parser
        self._taken = (
            self.url == _PATH
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not self.expect_100_continue
        )
        if self._taken:
            self._body = b""
        else:
            self._pass_on()

    def on_body(self, body: bytes) -> None:
        if self._taken:
            self._body = self._body + body if self._body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._taken and len(self._body) <= self.post.limit:
            headers, keep_alive = dict(self.headers), self.parser.should_keep_alive()
            if _CODED not in headers:
                self._taken = False
                self.heads.learn(self.parser.head_bytes, self._body, headers, keep_alive=keep_alive)
                self._accept(headers, self._body, keep_alive=keep_alive)
                return
        if self._taken:
            self._hand_over()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._fresh and (self.cycle is None or self.cycle.response_complete):
            found = self.heads.find(data)
            if found is not None:
                head, body = found
                self._accept(head.headers, body, keep_alive=head.keep_alive)
                return
            if data.startswith(_LINE) and self._take_whole(data):
                return
        super().data_received(data)

    def _take_whole(self, data: bytes) -> bool:
        """Take ``data`` if it is one whole message of ours, without the events of a parser."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if not len(_HEAD_END) <= end <= self.bounds.head_bytes:
            return False
        raw = data[:end]
        try:
            head = parse(raw, self.bounds)
        except Problem as problem:
            self.refuse(problem)
            return True
        if head.length != len(data) - end or head.expects_continue:
            return False
        if head.length > self.post.limit:
            return False
        body, headers = data[end:], dict(head.headers)
        if _CODED in headers:
            return False
        self.heads.learn(raw, body, headers, keep_alive=head.keep_alive)
        self._accept(headers, body, keep_alive=head.keep_alive)
        return True

    def _advance(self) -> None:
        super()._advance()
        if self._taken and not self._ended:
            self._hand_over()  # the rest of it is still to come: ASGI has the time limits for that

    def _hand_over(self) -> None:
        self._taken = False
        self._pass_on()
        if self._body:
            super().on_body(self._body)

    def _pass_on(self) -> None:
        """Begin the request in uvicorn, which was told nothing of it so far."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()

    # One message.

    def _accept(self, headers: Headers, body: bytes, *, keep_alive: bool) -> None:
        post = self.post
        exchange = _Exchange(keep_alive=keep_alive and not self.leaving)
        self.cycle = cast("RequestResponseCycle", exchange)
        trace = post.begin(headers)
        correlation: str | None = None
        try:
            correlation = correlation_id(headers)
            key = post.admit(headers)
            one = post.submission(headers, correlation, trace, body, key)
            post.hand_in(one, partial(self._decided, exchange, one, correlation, trace.request))
        except Problem as problem:
            self._refuse(exchange, problem_answer(problem, correlation))
            if trace.request is not None:
                trace.request.end(problem.kind.status, correlation)

    def _decided(
        self,
        exchange: _Exchange,
        one: Submission,
        correlation: str | None,
        trace: RequestTrace | None,
    ) -> None:
        """Write the answer. Called in the middle of a tick, so nothing may escape from here."""
        if exchange.disconnected:
            if trace is not None:
                trace.end(CLIENT_GONE, correlation)
            return
        try:
            status, given, ack = self.post.answer(one, correlation)
        except Problem as problem:
            status = problem.kind.status
            self._refuse(exchange, problem_answer(problem, correlation))
        except Exception:  # noqa: BLE001 - the tick must go on, and the client be answered
            # Our own mistake: the client must not wait for ever.
            _log.exception("answer_failed", message_id=one.message_id, correlation_id=correlation)
            mistake = Problem(INTERNAL, "The message's outcome is not known.")
            status = mistake.kind.status
            self._refuse(exchange, problem_answer(mistake, correlation))
        else:
            head = b"content-type: application/json\r\nx-correlation-id: %b\r\n" % given
            self._write(exchange, status, head, ack)
        if trace is not None:
            trace.end(status, correlation)

    def _refuse(self, exchange: _Exchange, answer: Answer) -> None:
        status, headers, body = answer
        if any(name == b"connection" for name, _ in headers):
            exchange.keep_alive = False
        rest = [b"%b: %b\r\n" % header for header in headers if header[0] != b"connection"]
        self._write(exchange, status, b"".join(rest), body)

    def _write(self, exchange: _Exchange, status: int, head: bytes, body: bytes) -> None:
        close = b"" if exchange.keep_alive else b"connection: close\r\n"
        exchange.response_complete = True
        self._write_counted(
            b"%b%b%b%bcontent-length: %d\r\n\r\n%b"
            % (STATUS_LINES[status], self._common_headers(), head, close, len(body), body)
        )
        if not exchange.keep_alive:
            self.linger()
        self.on_response_complete()

    def _common_headers(self) -> bytes:
        """Return uvicorn's own headers (Date) as bytes; it makes a new list once a second."""
        current = self.server_state.default_headers
        seen, rendered = _MessageProtocol._common
        if seen is not current:
            rendered = b"".join(b"%b: %b\r\n" % header for header in current)
            _MessageProtocol._common = (current, rendered)
        return rendered
