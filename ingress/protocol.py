"""The fast door: ``POST /api/messages`` answered by the HTTP protocol itself, without ASGI.

uvicorn's cycle of one task, two events and four dictionaries a request costs as much as everything
else that accepting a message takes (26 of 50 microseconds). So when a whole ``POST /api/messages``
arrives in one read, which is how nearly all do, this protocol takes the steps of
:class:`~ingress.hot_path.PostMessage` itself and writes the answer when the group commit has it.

Everything else goes to uvicorn's own protocol and the ASGI door, untouched: other routes, bodies
that come in pieces, ``Expect``, upgrades, HTTP/1.0, and a request sent while another of its
connection is being answered. So nothing is decided here that the ASGI door decides otherwise, and
the same tests run through both.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingress.headers import Headers, correlation_id
from ingress.hot_path import MESSAGES, PostMessage
from ingress.problems import INTERNAL, Problem
from ingress.submission import Submission
from ingress.wire import Answer, problem_answer
from otel.tracing.requests import CLIENT_GONE, RequestTrace

__all__ = ["message_protocol"]

_PATH = MESSAGES.encode()
_STATUS = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def message_protocol(post: PostMessage) -> type[asyncio.Protocol]:
    """Return the protocol class for ``uvicorn.Config(http=...)`` that serves ``post``."""
    return type("MessageProtocol", (_MessageProtocol,), {"post": post})


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


class _MessageProtocol(HttpToolsProtocol):
    post: PostMessage
    _taken = False  # the request being parsed is ours, and not yet whole
    _body = b""
    _common: tuple[list[tuple[bytes, bytes]] | None, bytes] = (None, b"")

    # The parser's callbacks, in the order in which they come.

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._taken = False

    def on_headers_complete(self) -> None:
        parser = self.parser
        self._taken = (
            self.url == _PATH
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
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
            self._taken = False
            self._accept(dict(self.headers), self._body)
            return
        if self._taken:
            self._hand_over()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._taken and not self.transport.is_closing():
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

    def _accept(self, headers: Headers, body: bytes) -> None:
        exchange = _Exchange(keep_alive=self.parser.should_keep_alive())
        self.cycle = cast("RequestResponseCycle", exchange)
        trace = self.post.begin(headers)
        correlation: str | None = None
        try:
            correlation = correlation_id(headers)
            self.post.admit(headers)
            one, decided = self.post.submit(headers, correlation, trace, body)
        except Problem as problem:
            self._write(exchange, problem_answer(problem, correlation))
            if trace.request is not None:
                trace.request.end(problem.kind.status, correlation)
        else:
            decided.add_done_callback(
                partial(self._decided, exchange, one, correlation, trace.request)
            )

    def _decided(
        self,
        exchange: _Exchange,
        one: Submission,
        correlation: str | None,
        trace: RequestTrace | None,
        _: Any,
    ) -> None:
        if exchange.disconnected:
            if trace is not None:
                trace.end(CLIENT_GONE, correlation)
            return
        try:
            answer = self.post.answer(one, correlation)
        except Problem as problem:
            answer = problem_answer(problem, correlation)
        except BaseException:
            # Our own mistake: the client must not wait for ever; the loop logs the traceback.
            mistake = Problem(INTERNAL, "The message's outcome is not known.")
            self._write(exchange, problem_answer(mistake, correlation))
            raise
        self._write(exchange, answer)
        if trace is not None:
            trace.end(answer[0], correlation)

    def _write(self, exchange: _Exchange, answer: Answer) -> None:
        status, headers, body = answer
        parts = [_STATUS[status], self._common_headers()]
        for name, value in headers:
            if name == b"connection":
                exchange.keep_alive = False
            else:
                parts += (name, b": ", value, b"\r\n")
        if not exchange.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        parts.append(body)
        exchange.response_complete = True
        self.transport.write(b"".join(parts))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _common_headers(self) -> bytes:
        """Return uvicorn's own headers (Date) as bytes; it makes a new list once a second."""
        current = self.server_state.default_headers
        seen, rendered = _MessageProtocol._common
        if seen is not current:
            rendered = b"".join(b"%b: %b\r\n" % header for header in current)
            _MessageProtocol._common = (current, rendered)
        return rendered
