"""The hot path: the connection itself serves ``POST /api/messages``, without ASGI.

ASGI's task, events and dictionaries cost as much as all other work of accepting a message (26 of 50
microseconds). Nearly every ``POST /api/messages`` arrives as a whole. Its connection runs the steps
of ``PostMessage`` as soon as it has read the request, and writes the answer when the group commit
has the verdict.

All other requests go through ASGI: other routes, bodies that come in pieces, are compressed or have
a digest, ``Expect``, and HTTP/1.0. Both ways give the same answers, and the same tests run through
both.
"""

from __future__ import annotations

import structlog

from ingress.accept.header_cache import CachedHead, RequestHeadCache
from ingress.accept.post_message import MESSAGES, PostMessage
from ingress.accept.submission import Submission
from ingress.http1.answers import STATUS_LINES, header_lines
from ingress.http1.bounds import Bounds
from ingress.http1.connection import HttpConnection
from ingress.http1.request_head import RequestHead, parse
from ingress.schema.problems import INTERNAL, Problem
from ingress.web.asgi import Answer, problem_answer
from ingress.web.digests import has_digest
from ingress.web.headers import Headers, correlation_id
from ingress.web.multipart import is_form
from otel.tracing.requests import CLIENT_GONE

__all__ = ["MessageExchange", "MessageHotPath"]

_log = structlog.get_logger(__name__)

_PATH = MESSAGES.encode()
_LINE = b"POST %b HTTP/1.1\r\n" % _PATH
_HEAD_END = b"\r\n\r\n"
_CODED = b"content-encoding"


class MessageHotPath:
    """Serves ``POST /api/messages`` requests that have come as a whole, for all connections.

    Args:
        post: The steps of the route.
        bounds: The limits of a head.
        forms: Whether ``multipart/form-data`` is served, through ASGI.
    """

    def __init__(self, post: PostMessage, bounds: Bounds, *, forms: bool = False) -> None:
        self._post = post
        self._bounds = bounds
        self._forms = forms
        self._header_cache = RequestHeadCache()

    def take(self, connection: HttpConnection, data: bytes) -> bool:
        """Serve ``data`` if it is one whole message; return whether it is."""
        found = self._header_cache.find(data)
        if found is None:
            if not data.startswith(_LINE):
                return False
            try:
                found = self._parse(data)
            except Problem as problem:
                connection.refuse(problem)
                return True
            if found is None:
                return False
        head, body = found
        MessageExchange(connection, self._post, keep_alive=head.keep_alive).begin(
            head.headers, body
        )
        return True

    def _parse(self, data: bytes) -> tuple[CachedHead, bytes] | None:
        """Return head and body if ``data`` is one whole message, without a ``RequestParser``.

        Raises:
            Problem: The head is malformed or past a limit.
        """
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if not len(_HEAD_END) <= end <= self._bounds.head_bytes:
            return None
        raw = data[:end]
        head = parse(raw, self._bounds)
        headers = self._plain(head)
        if headers is None or head.length != len(data) - end:
            return None
        cached = CachedHead(headers, head.length, head.keep_alive)
        self._header_cache.learn(raw, cached)
        return cached, data[end:]

    def wants(self, head: RequestHead) -> bool:
        """Return whether the head is that of a plain message, which the hot path serves."""
        return self._plain(head) is not None

    def _plain(self, head: RequestHead) -> Headers | None:
        """Return the headers of a plain message, or ``None`` for any other request."""
        if (
            head.target != _PATH
            or head.method != b"POST"
            or head.version != "1.1"
            or head.expects_continue
            or head.length > self._post.limit
        ):
            return None
        headers = dict(head.headers)
        if len(headers) < len(head.headers):
            return None  # a header is repeated: the ASGI route knows which headers are lists
        if _CODED in headers or has_digest(headers) or (self._forms and is_form(headers)):
            return None
        return headers

    def serve(self, connection: HttpConnection, head: RequestHead, body: bytes) -> bool:
        """Serve one request; return ``False`` if its body is too large, to leave it to ASGI."""
        if len(body) > self._post.limit:
            return False
        exchange = MessageExchange(connection, self._post, keep_alive=head.keep_alive)
        exchange.begin(dict(head.headers), body)
        return True


class MessageExchange:
    """One ``POST /api/messages`` of a connection, from its body to its answer.

    ``keep_alive`` is false if the connection closes after the answer.
    """

    __slots__ = (
        "_connection", "_correlation", "_gone", "_message", "_post", "_trace", "keep_alive",
    )  # fmt: skip
    started = False  # always false while the request is under way: the answer is sent whole

    def __init__(self, connection: HttpConnection, post: PostMessage, *, keep_alive: bool) -> None:
        self._connection = connection
        self._post = post
        self._gone = False
        self.keep_alive = keep_alive

    def disconnect(self) -> None:
        """Record that the client is gone. Its message goes on."""
        self._gone = True

    def begin(self, headers: Headers, body: bytes) -> None:
        """Check the message and hand it to the group commit, or answer with a problem."""
        self._connection.begin(self)
        post = self._post
        trace = post.begin(headers)
        self._trace = trace.request
        self._correlation: str | None = None
        try:
            self._correlation = correlation_id(headers)
            key = post.admit(headers)
            self._message = post.submission(headers, self._correlation, trace, body, key)
            post.hand_in(self._message, self._decided)
        except Problem as problem:
            self._refuse(problem)

    def _decided(self) -> None:
        """Write the answer. The tick calls this, so no exception may leave it."""
        if self._gone:
            if self._trace is not None:
                self._trace.end(CLIENT_GONE, self._correlation)
            return
        message: Submission = self._message
        try:
            status, given, ack = self._post.answer(message, self._correlation)
        except Problem as problem:
            self._refuse(problem)
        except Exception:  # noqa: BLE001 - the tick has other clients to answer, too
            _log.exception(
                "Answer failed: unhandled exception; the client is answered 500",
                message_id=message.message_id,
                correlation_id=self._correlation,
            )
            self._refuse(Problem(INTERNAL, "The message's outcome is not known."))
        else:
            head = b"content-type: application/json\r\nx-correlation-id: %b\r\n" % given
            self._write(status, head, ack)

    def _refuse(self, problem: Problem) -> None:
        answer: Answer = problem_answer(problem, self._correlation)
        status, headers, body = answer
        if any(name == b"connection" for name, _ in headers):
            self.keep_alive = False
        self._write(status, header_lines(headers), body)

    def _write(self, status: int, head: bytes, body: bytes) -> None:
        connection = self._connection
        close = b"" if self.keep_alive else b"connection: close\r\n"
        connection.writer.write(
            b"%b%b%b%bcontent-length: %d\r\n\r\n%b"
            % (STATUS_LINES[status], connection.common_headers(), head, close, len(body), body)
        )
        connection.finish(self)
        if self._trace is not None:
            self._trace.end(status, self._correlation)
