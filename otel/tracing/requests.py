"""Tracing of a request: decided before anything else, recorded once it is answered.

    POST /api/messages  SERVER                  the client's span is its parent
      ├── put payload  CLIENT                   large content, on its way into the payload store
      ├── idempotency check                     one look-up, and what it decided
      └── create <log>  PRODUCER                its context travels with the message
            └── send <log>  CLIENT              one for each log (otel.tracing.traced)

A request that is not sampled keeps only the ``traceparent`` to send on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from random import getrandbits
from typing import Protocol

import msgspec

from otel.tracing.context import (
    RANDOM,
    SAMPLED,
    Parent,
    checked,
    is_sampled,
    new_id,
    parse,
    state,
    traceparent_of,
)
from otel.tracing.sampling import Sampling
from otel.tracing.span import Attributes, Endpoint, OperationKind, Record, Span

__all__ = [
    "CLIENT_GONE",
    "INSERT",
    "NO_TRACE",
    "PAYLOAD_BYTES",
    "Headers",
    "MessageTrace",
    "PassOn",
    "Read",
    "RequestTrace",
    "Requests",
    "Trace",
    "Tracer",
]

Headers = Mapping[bytes, bytes]
Read = Callable[[Headers], Parent | None]
"""Reads the client's context from headers in a format other than W3C's."""
CLIENT_GONE = 499
"""The status that is recorded when the client left before the answer."""
_OUR_FAULT = 500
_LOW = 2**64 - 1


class Trace(msgspec.Struct, frozen=True, gc=False):
    """Trace context of a request. ``request`` is set if it is sampled."""

    traceparent: str | None
    """Sent on with its messages, unless each has its own (``RequestTrace.message``)."""
    tracestate: str | None
    request: RequestTrace | None = None


NO_TRACE = Trace(None, None)


class Tracer(Protocol):
    """Begins the trace of each request."""

    recording: bool
    """Whether a request may be sampled at all."""

    def begin(self, headers: Headers, method: str, route: str) -> Trace:
        """Return the trace context of a request. ``headers`` are as ASGI gives them."""


class PassOn:
    """Tracing is off: a client's context is only passed on to readers of the log."""

    recording = False

    def begin(self, headers: Headers, method: str, route: str) -> Trace:  # noqa: ARG002
        """Return the client's own context."""
        traceparent = checked(headers.get(b"traceparent"))
        if traceparent is None:
            return NO_TRACE
        return Trace(traceparent, state(headers.get(b"tracestate")))


class Requests:
    """Begins the trace of each request, while tracing is on.

    Args:
        record: Takes the finished spans.
        sampling: Decides which requests are traced.
        created: The log that messages are created for (the primary).
        read: Reads the client's context; by default, from W3C's headers.
    """

    recording = True

    def __init__(
        self, record: Record, sampling: Sampling, created: Endpoint, read: Read | None = None
    ) -> None:
        self._record = record
        self._sampling = sampling
        self._created = created
        self._read = read
        # For the usual case, in which no sampler has to be called.
        self._built_in = sampling.ask is None
        self._bound = sampling.bound
        self._keeps = self._built_in and sampling.parent_based

    def begin(self, headers: Headers, method: str, route: str) -> Trace:
        """Decide whether the request is sampled; begin its span if it is."""
        if self._read is not None:
            parent = self._read(headers)
            if parent is not None:
                return self._continued(parent, method, route)
        elif b"traceparent" in headers:
            traceparent = checked(headers[b"traceparent"])
            if traceparent is not None:
                tracestate = state(headers.get(b"tracestate"))
                if self._keeps and not is_sampled(traceparent):
                    return Trace(traceparent, tracestate)  # the client's own, as it is
                return self._continued(parse(traceparent, tracestate), method, route)
        ids = getrandbits(192)  # the trace's, and a span's
        trace_id = ids >> 64
        if trace_id & _LOW >= self._bound if self._built_in else not self._sampling.root(trace_id):
            # Not sampled, and its traceparent says so: otherwise readers of the log would decide
            # again.
            text = ids.to_bytes(24, "big").hex()
            return Trace(f"00-{text[:32]}-{text[32:]}-02", None)
        trace = RequestTrace(self._record, self._created, method, route)
        trace.trace_id, trace.flags = trace_id, SAMPLED | RANDOM
        return Trace(None, None, trace)

    def _continued(self, parent: Parent, method: str, route: str) -> Trace:
        if not self._sampling.child(parent):
            flags = parent.flags & RANDOM
            return Trace(traceparent_of(parent.trace_id, parent.span_id, flags), parent.state)
        trace = RequestTrace(self._record, self._created, method, route)
        trace.trace_id, trace.flags = parent.trace_id, SAMPLED | parent.flags & RANDOM
        trace.parent = parent
        return Trace(None, parent.state, trace)


class RequestTrace:
    """A sampled request, until it is answered. Belongs to one event loop."""

    __slots__ = (
        "_created", "_messages", "_method", "_record", "_route", "_span_id", "_start", "flags",
        "parent", "trace_id",
    )  # fmt: skip

    def __init__(self, record: Record, created: Endpoint, method: str, route: str) -> None:
        self._record = record
        self._created = created
        self._method = method
        self._route = route
        self._span_id = new_id(64)
        self._start = time.time_ns()
        self._messages: list[MessageTrace] = []
        self.trace_id = 0
        self.flags = SAMPLED
        self.parent: Parent | None = None

    def message(self, message_id: str, correlation_id: str) -> MessageTrace:
        """Return the trace of one message in this request: it has a context of its own."""
        trace = MessageTrace(self, message_id, correlation_id)
        self._messages.append(trace)
        return trace

    def end(self, status: int, correlation_id: str | None, *, route: str | None = None) -> None:
        """Record the spans of the request, which was answered with ``status``, and of its messages.

        ``route`` is the template of a path that has parameters; empty if no route matched.
        """
        end = time.time_ns()
        attributes: Attributes = {
            "http.request.method": self._method,
            "url.path": self._route,
            "url.scheme": "http",
            "http.response.status_code": status,
        }
        if route is None:
            route = self._route
        if route:
            attributes["http.route"] = route
        # Cleared, because each of them refers to this trace: a cycle waits for the garbage
        # collector.
        messages, self._messages = self._messages, []
        if len(messages) == 1:
            attributes["crossfade.message_id"] = messages[0].message_id
            correlation_id = correlation_id or messages[0].correlation_id
        elif messages:
            attributes["messaging.batch.message_count"] = len(messages)
        if correlation_id is not None:
            attributes["messaging.message.conversation_id"] = correlation_id
        failed = str(status) if status >= _OUR_FAULT else None
        parent = self.parent
        self._record(
            Span(
                f"{self._method} {route}".rstrip(), OperationKind.SERVER, self.trace_id,
                self._span_id, parent.span_id if parent else None, self._start, end, attributes,
                parent.state if parent else None, remote=parent is not None, error=failed,
            )
        )  # fmt: skip
        for message in messages:
            message.end(self._record, self._created, self._span_id)


class MessageTrace:
    """One message of a sampled request: its outcome, and the times of its steps.

    Times are nanoseconds since the epoch.
    """

    __slots__ = (
        "_checked", "_created", "_inserted", "_partition", "_request", "_span_id", "_uploaded",
        "correlation_id", "message_id", "outcome", "traceparent",
    )  # fmt: skip

    def __init__(self, request: RequestTrace, message_id: str, correlation_id: str) -> None:
        self.message_id = message_id
        self.correlation_id = correlation_id
        self.outcome = "unknown"
        """``accepted``, ``repeated``, or the name of a problem."""
        self._request = request
        self._span_id = new_id(64)
        self.traceparent = traceparent_of(request.trace_id, self._span_id, request.flags)
        self._uploaded: tuple[int, int, int, str | None] | None = None
        self._checked: tuple[int, int] | None = None
        self._created: tuple[int, int] | None = None
        self._inserted: tuple[int, int, str | None] | None = None
        self._partition = 0

    @property
    def trace_id(self) -> str:
        """The trace's id, for exemplars and logs."""
        return self.traceparent[3:35]

    def uploaded(self, began: int, size: int, error: BaseException | None) -> None:
        """Record an upload of its content (``size`` in bytes) that has just ended or failed."""
        self._uploaded = began, time.time_ns(), size, type(error).__name__ if error else None

    def checked(self, began: int, ended: int) -> None:
        """Record when its key was looked up: is it a row already?"""
        self._checked = began, ended

    def created(self, began: int, ended: int, partition: int) -> None:
        """Record when it became an envelope (or, without a log, a row to insert)."""
        self._created = began, ended
        self._partition = partition

    def inserted(self, began: int, ended: int, error: BaseException | None) -> None:
        """Record when the request itself inserted it, without the log."""
        self._inserted = began, ended, type(error).__name__ if error else None

    def end(self, record: Record, log: Endpoint, server: int) -> None:
        """Record its spans, below the request's span, whose id is ``server``."""
        request = self._request
        trace_id, tracestate = request.trace_id, request.parent.state if request.parent else None
        about: Attributes = {
            "crossfade.message_id": self.message_id,
            "messaging.message.conversation_id": self.correlation_id,
        }
        if self._uploaded:
            began, ended, size, error = self._uploaded
            record(
                Span(
                    "put payload", OperationKind.CLIENT, trace_id, new_id(64), server,
                    began, ended, {PAYLOAD_BYTES: size, **about}, tracestate, error=error,
                )
            )  # fmt: skip
        if self._checked:
            found = {"crossfade.idempotency.outcome": self.outcome, **about}
            began, ended = self._checked
            record(
                Span(
                    "idempotency check", OperationKind.INTERNAL, trace_id, new_id(64), server,
                    began, ended, found, tracestate,
                )
            )  # fmt: skip
        if self._created:
            attributes = log.attributes("create", "create", log.messages) | about
            attributes["messaging.destination.partition.id"] = str(self._partition)
            began, ended = self._created
            record(
                Span(
                    f"create {log.messages}", OperationKind.PRODUCER, trace_id, self._span_id,
                    server, began, ended, attributes, tracestate,
                )
            )  # fmt: skip
        if self._inserted:
            began, ended, error = self._inserted
            record(
                Span(
                    "INSERT messages", OperationKind.CLIENT, trace_id, new_id(64), self._span_id,
                    began, ended, {**INSERT, **about}, tracestate, error=error,
                )
            )  # fmt: skip


PAYLOAD_BYTES = "crossfade.payload.bytes"
"""Attribute of a span about the payload store: the content's length in bytes."""
INSERT: Attributes = {
    "db.system.name": "postgresql",
    "db.operation.name": "INSERT",
    "db.collection.name": "messages",
}
"""Attributes of a span about the insert."""
