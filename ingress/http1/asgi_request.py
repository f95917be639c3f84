"""The server side of ASGI for one request (HTTP protocol, version 2.3)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog

from ingress.http1.answers import STATUS_LINES, rendered
from ingress.http1.request_head import RequestHead
from ingress.schema.problems import INTERNAL, MALFORMED_REQUEST, Problem
from ingress.web.asgi import AsgiApp, Scope, problem_answer

if TYPE_CHECKING:
    from ingress.http1.connection import HttpConnection

__all__ = ["AsgiRequest", "scope_of"]

_log = structlog.get_logger(__name__)

_BODY_BYTES = 64 * 1024  # body bytes buffered for the application; past them reading pauses
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++")
_NOT_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS = {204, 304}


def scope_of(head: RequestHead) -> Scope:
    """Return the ASGI scope of a request. The connection adds ``client``, ``server``, ``state``.

    Raises:
        Problem: The path is not UTF-8. Other ids than the client's would be read into it.
    """
    path, _, query = head.target.partition(b"#")[0].partition(b"?")
    try:
        text = unquote(path.decode("ascii"), errors="strict")
    except UnicodeDecodeError as error:
        detail = "The path is not UTF-8: percent-encode the UTF-8 bytes of each character."
        raise Problem(MALFORMED_REQUEST, detail, headers={"Connection": "close"}) from error
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": head.version,
        "scheme": "http",
        "method": head.method.decode("ascii"),
        "root_path": "",
        "path": text,
        "raw_path": path,
        "query_string": query,
        "headers": head.headers,
    }


class AsgiRequest:
    """A request between its connection and the application.

    The connection calls ``feed``, ``end`` and ``disconnect``; the application calls
    ``receive`` and ``send``.
    """

    __slots__ = (
        "_answer_head", "_body", "_changed", "_chunked", "_complete", "_connection", "_continue",
        "_done", "_gone", "_head", "_left", "keep_alive", "started",
    )  # fmt: skip

    def __init__(self, connection: HttpConnection, head: RequestHead) -> None:
        self._connection = connection
        self._head = head
        self.keep_alive = head.keep_alive
        """Whether the connection takes another request after this one."""
        self.started = False
        """Whether a part of the answer was sent."""
        self._continue = head.expects_continue
        self._body = bytearray()  # received, and not yet taken by the application
        self._complete = False  # the whole body was received
        self._changed = asyncio.Event()  # the application has something to receive
        self._gone = False  # the client is gone
        self._done = False  # the whole answer was sent
        # The answer's head waits for the first piece of the answer's body. A client that is refused
        # before it has sent its own body may end its stream as soon as it sees the head alone. Its
        # stream is then shorter than its Content-Length, so an HTTP/2 proxy in between resets it,
        # and the rest of our answer is lost.
        self._answer_head: bytes | None = None
        self._chunked = False
        self._left: int | None = None  # bytes of the answer's body to come, if its length is known

    # Called by the connection.

    def feed(self, data: bytes) -> None:
        """Take a piece of the body. After the whole answer was sent, the piece is dropped."""
        if self._done:
            return
        self._body += data
        if self.is_full:
            self._connection.pause_reading()
        self._changed.set()

    @property
    def is_full(self) -> bool:
        """Whether reading pauses until the application has taken the buffered body."""
        return not self._done and len(self._body) > _BODY_BYTES

    def end(self) -> None:
        """Record that the whole body has come."""
        self._complete = True
        self._changed.set()

    def disconnect(self) -> None:
        """Record that the client is gone."""
        self._gone = True
        self._changed.set()

    # Run and called by the application.

    async def run(self, app: AsgiApp, scope: Scope) -> None:
        """Run the application for this request; answer 500 if it returns without an answer."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:  # noqa: BLE001 - an application may raise any; answered 500 below
            _log.exception(
                "Request failed: unhandled exception", method=scope["method"], path=scope["path"]
            )
        finally:
            if not self._done and not self._gone:
                self._fail()

    def _fail(self) -> None:
        if self.started:  # the client sees a body shorter than its length, or no last chunk
            self._gone = True
            self._connection.linger()
            return
        self.started = True
        self.keep_alive = False
        problem = Problem(INTERNAL, "The request was not answered.")
        self._connection.writer.write(rendered(problem_answer(problem, None)))
        self._finish()

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next piece of the body, or ``http.disconnect``.

        The latter means that the client is gone, or that it has its whole answer.
        """
        connection = self._connection
        if self._continue and not self._gone:
            self._continue = False
            connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not (self._gone or self._done):
            connection.resume_reading()
            await self._changed.wait()
            self._changed.clear()
        if self._gone or self._done:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), bytearray()
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Send the answer's head, or a piece of its body.

        Raises:
            RuntimeError: The message is out of order, has an invalid header, or does not agree with
                ``Content-Length``.
        """
        if self._gone:
            return
        has_head = self.started or self._answer_head is not None
        expected = "http.response.body" if has_head else "http.response.start"
        if self._done or message["type"] != expected:
            state = "the answer is complete" if self._done else f"{expected} has to come"
            raise RuntimeError(f"the application sent {message['type']!r}, but {state}")
        if has_head:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))
        else:
            self._send_head(message["status"], message.get("headers", ()))
            if self._left is None:
                self._write(b"")  # send the head of a stream now: its body may begin much later
                self._connection.begin_stream()
        writer = self._connection.writer
        if writer.paused and not (self._done or self._gone):
            await writer.drain()  # before the application makes the next piece

    def _send_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        lines = []
        for given, value in headers:
            name = given.lower()
            if not _NAME.fullmatch(name) or _NOT_IN_VALUE.search(value):
                raise RuntimeError(f"the application sent an invalid header: {name!r}: {value!r}")
            if name == b"connection":
                if b"close" in value.lower():
                    self.keep_alive = False
                continue
            if name == b"transfer-encoding":
                continue  # this method decides it
            if name == b"content-length":
                self._left = int(value)
            lines.append(b"%b: %b\r\n" % (name, value))
        if self._head.method == b"HEAD" or status in _BODILESS:
            self._left = 0
        elif self._left is None and self._head.version == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = (STATUS_LINES[status], self._connection.common_headers(), b"".join(lines))
        self._continue = False
        self._answer_head = b"%b%b%b\r\n" % head

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._write(piece if more else piece + b"0\r\n\r\n")
        elif self._head.method == b"HEAD":
            self._write(b"")
        else:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0 or (self._left and not more):
                    raise RuntimeError("the answer's body has not the length of its Content-Length")
            self._write(body)
        if not more:
            self._finish()

    def _write(self, data: bytes) -> None:
        """Send a piece of the answer, after the head if that still waits."""
        head, self._answer_head = self._answer_head, None
        if head is not None:
            self.started = True
            data = head + data
        if data:
            self._connection.writer.write(data)

    def _finish(self) -> None:
        self._done = True
        self._changed.set()
        self._connection.finish(self)
