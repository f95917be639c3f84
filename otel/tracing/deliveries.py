"""Tracing of delivered batches: each delivery of each sampled record, to its end.

    create <log>                                from the record's own traceparent
      ├── receive <log>  CLIENT                 from the append to its delivery here
      └── process <log>  CONSUMER               once for every delivery
            ├── get payload  CLIENT             once for every attempt, of large content
            ├── INSERT messages  CLIENT         once for every attempt
            ├── send <dead letters>  CLIENT     if it can't be persisted
            └── ack <log>  CLIENT

A record without a valid ``traceparent`` begins a trace of its own. A batch in which nothing is
sampled is ``UNTRACED``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import msgspec

from otel.tracing.context import Parent, checked, derived_trace_id, is_sampled, new_id, parse, state
from otel.tracing.requests import INSERT, PAYLOAD_BYTES
from otel.tracing.sampling import Sampling
from otel.tracing.span import Attributes, Endpoint, Link, OperationKind, Record, Span
from transport.contract import DeadLetter
from transport.contract import Record as LogRecord
from transport.message.envelope import (
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_REDRIVES,
    HEADER_TRACEPARENT,
    HEADER_TRACESTATE,
)

__all__ = ["UNTRACED", "Deliveries", "Delivery", "TracedDeliveries"]


class Delivery:
    """A delivered batch that is not traced: every call does nothing.

    As a context manager, it surrounds the work on the batch, up to the commit. ``began``
    is the beginning of an operation, in nanoseconds since the epoch.
    """

    begun: Mapping[str, str] = {}
    """Trace ids, by offset, of the records that came without a trace id."""
    trace_id: str | None = None
    """One of the traces, for an exemplar."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.not_settled(type(error).__name__)

    def named(self, identities: Iterable[tuple[str, str, str]]) -> None:
        """Add records' message and correlation ids, by offset: some records lack the headers."""

    def fetched(self, offset: str, began: int, size: int, error: BaseException | None) -> None:
        """Record an attempt to read a record's content, of ``size`` bytes, that has just ended."""

    def attempted(self, offsets: Iterable[str], began: int, error: BaseException | None) -> None:
        """Record an attempt to insert the records at ``offsets`` that has just ended."""

    def written(self, outcome: str, offsets: Iterable[str]) -> None:
        """Set the outcome of the records at ``offsets``: ``persisted`` or ``duplicate``."""

    def dead_lettered(self, letters: Sequence[DeadLetter], began: int) -> None:
        """Record an append of dead letters that has just ended."""

    def settled(self, began: int) -> None:
        """Record the move of the position, which has just ended, and the batch's other spans."""

    def not_settled(self, why: str) -> None:
        """Record the batch's spans as not settled: its records are read again."""


UNTRACED = Delivery()


class Deliveries:
    """Tracing that is off: no batch is traced."""

    def begin(
        self,
        transport: str,  # noqa: ARG002 - for TracedDeliveries
        group: str,  # noqa: ARG002
        records: Sequence[LogRecord],  # noqa: ARG002
        asked_at: int,  # noqa: ARG002
    ) -> Delivery:
        """Return the trace of a batch that was requested at ``asked_at`` (ns) and arrived now."""
        return UNTRACED


class TracedDeliveries(Deliveries):
    """Begins the trace of each batch that is delivered from one of ``endpoints``, by transport."""

    def __init__(
        self, record: Record, sampling: Sampling, endpoints: Mapping[str, Endpoint]
    ) -> None:
        self._record = record
        self._sampling = sampling
        self._endpoints = endpoints

    def begin(
        self, transport: str, group: str, records: Sequence[LogRecord], asked_at: int
    ) -> Delivery:
        """Return the trace of a batch that was requested at ``asked_at`` (ns) and arrived now."""
        delivered = time.time_ns()
        found = [
            traced for record in records if (traced := self._sampled(record, asked_at, delivered))
        ]
        if not found:
            return UNTRACED
        together = _Together(group, len(records), delivered)
        return TracedDelivery(self._record, self._endpoints[transport], found, together)

    def _sampled(self, record: LogRecord, asked_at: int, delivered: int) -> _Received | None:
        header = record.headers.get(HEADER_TRACEPARENT)
        context = checked(header)
        if context is None:
            trace_id = derived_trace_id(record.body)
            if not self._sampling.root(trace_id):
                return None
            parent = None
        else:
            if not is_sampled(context):
                return None
            parent = parse(context, state(record.headers.get(HEADER_TRACESTATE)))
            if not self._sampling.child(parent):
                return None
            trace_id = parent.trace_id
        # A span begins at the record's append at the earliest: a poll that waited for the append is
        # not part of its trace.
        appended = min(int(record.appended_at * 1e9), delivered)
        return _Received(record, trace_id, parent, max(asked_at, appended))


class _Together(msgspec.Struct, frozen=True):
    """Attributes that the records of a batch share."""

    group: str
    records: int
    delivered: int


class _Received:
    """A sampled record of a batch."""

    __slots__ = (
        "about", "attempts", "error", "outcome", "parent", "process", "record", "start", "trace_id",
    )  # fmt: skip

    def __init__(self, record: LogRecord, trace_id: int, parent: Parent | None, start: int) -> None:
        self.record = record
        self.about = _about(record)
        self.trace_id = trace_id
        self.parent = parent
        self.start = start
        self.process = new_id(64)
        self.attempts = 0
        self.outcome: str | None = None
        self.error: str | None = None


class TracedDelivery(Delivery):
    """The sampled records of a batch, from their delivery to the commit."""

    def __init__(
        self,
        record: Record,
        endpoint: Endpoint,
        found: Sequence[_Received],
        together: _Together,
    ) -> None:
        self._record = record
        self._endpoint = endpoint
        self._group = together.group
        self._found = {received.record.offset: received for received in found}
        self._together = together.records
        self._delivered = together.delivered
        self.begun = {
            traced.record.offset: f"{traced.trace_id:032x}"
            for traced in found
            if traced.parent is None
        }
        self.trace_id = f"{found[0].trace_id:032x}"

    def named(self, identities: Iterable[tuple[str, str, str]]) -> None:
        """Add records' message and correlation ids, by offset: some records lack the headers."""
        for offset, message_id, correlation_id in identities:
            if traced := self._found.get(offset):
                traced.about["crossfade.message_id"] = message_id
                traced.about["messaging.message.conversation_id"] = correlation_id

    def fetched(self, offset: str, began: int, size: int, error: BaseException | None) -> None:
        """Record an attempt to read a record's content, of ``size`` bytes, that has just ended."""
        if traced := self._found.get(offset):
            self._add(
                traced, "get payload", OperationKind.CLIENT, {PAYLOAD_BYTES: size, **traced.about},
                (began, time.time_ns()), parent_id=traced.process,
                error=type(error).__name__ if error else None,
            )  # fmt: skip

    def attempted(self, offsets: Iterable[str], began: int, error: BaseException | None) -> None:
        """Record an attempt to insert the records at ``offsets`` that has just ended."""
        ended = time.time_ns()
        offsets = list(offsets)
        for offset in offsets:
            traced = self._found.get(offset)
            if traced is None:
                continue
            traced.attempts += 1
            attributes = {**INSERT, **traced.about, "crossfade.attempt": traced.attempts}
            if len(offsets) > 1:
                attributes["db.operation.batch.size"] = len(offsets)
            self._add(
                traced, "INSERT messages", OperationKind.CLIENT, attributes, (began, ended),
                parent_id=traced.process, error=type(error).__name__ if error else None,
            )  # fmt: skip

    def written(self, outcome: str, offsets: Iterable[str]) -> None:
        """Set the outcome of the records at ``offsets``: ``persisted`` or ``duplicate``."""
        for offset in offsets:
            if traced := self._found.get(offset):
                traced.outcome = outcome

    def dead_lettered(self, letters: Sequence[DeadLetter], began: int) -> None:
        """Record an append of dead letters that has just ended."""
        ended = time.time_ns()
        endpoint = self._endpoint
        for letter in letters:
            traced = self._found.get(letter.record.offset)
            if traced is None:
                continue
            traced.outcome, traced.error = "dead_lettered", letter.reason.value
            attributes = endpoint.attributes("send", "send", endpoint.dead_letters)
            attributes |= traced.about
            attributes["crossfade.dead_letter.reason"] = letter.reason.value
            attributes["crossfade.attempts"] = letter.attempts
            self._add(
                traced, f"send {endpoint.dead_letters}", OperationKind.CLIENT, attributes,
                (began, ended), parent_id=traced.process, link=True,
            )  # fmt: skip

    def settled(self, began: int) -> None:
        """Record the move of the position, which has just ended, and the batch's other spans."""
        ended = time.time_ns()
        self._end(began, None)
        for traced in self._found.values():
            attributes = self._attributes(traced, "ack", "settle")
            self._add(
                traced, f"ack {self._endpoint.messages}", OperationKind.CLIENT, attributes,
                (began, ended), parent_id=traced.process,
            )  # fmt: skip

    def not_settled(self, why: str) -> None:
        """Record the batch's spans as not settled: its records are read again."""
        self._end(time.time_ns(), why)

    def _end(self, ended: int, error: str | None) -> None:
        for traced in self._found.values():
            attributes = self._attributes(traced, "receive", "receive")
            receive = new_id(64)
            parent = traced.parent.span_id if traced.parent else traced.process
            self._add(
                traced, f"receive {self._endpoint.messages}", OperationKind.CLIENT, attributes,
                (traced.start, self._delivered), parent_id=parent, link=True, span_id=receive,
            )  # fmt: skip
            attributes = self._attributes(traced, "process", "process")
            attributes.pop("messaging.batch.message_count", None)  # one message is processed
            if traced.outcome:
                attributes["crossfade.outcome"] = traced.outcome
            self._add(
                traced, f"process {self._endpoint.messages}", OperationKind.CONSUMER, attributes,
                (self._delivered, ended), link=True,
                parent_id=traced.parent.span_id if traced.parent else None,
                also=Link(traced.trace_id, receive), span_id=traced.process,
                error=error or traced.error,
            )  # fmt: skip

    def _attributes(self, traced: _Received, operation: str, kind: str) -> Attributes:
        endpoint, record = self._endpoint, traced.record
        made = endpoint.attributes(operation, kind, endpoint.messages)
        made |= endpoint.position(record.partition, record.offset)
        made["messaging.consumer.group.name"] = self._group
        if self._together > 1:
            made["messaging.batch.message_count"] = self._together
        return made | traced.about

    def _add(  # noqa: PLR0913 - the fields of a span
        self,
        traced: _Received,
        name: str,
        kind: OperationKind,
        attributes: Attributes,
        times: tuple[int, int],
        *,
        parent_id: int | None,
        link: bool = False,
        also: Link | None = None,
        span_id: int | None = None,
        error: str | None = None,
    ) -> None:
        parent = traced.parent
        links = [Link(traced.trace_id, parent.span_id)] if link and parent else []
        if also:
            links.append(also)
        self._record(
            Span(
                name, kind, traced.trace_id, span_id or new_id(64), parent_id, *times, attributes,
                parent.state if parent else None,
                remote=parent is not None and parent_id == parent.span_id,
                links=links, error=error,
            )
        )  # fmt: skip


def _about(record: LogRecord) -> Attributes:
    names = (
        (HEADER_MESSAGE_ID, "crossfade.message_id"),
        (HEADER_CORRELATION_ID, "messaging.message.conversation_id"),
        (HEADER_REDRIVES, "crossfade.redrives"),
    )
    return {
        attribute: record.headers[header].decode("utf-8", "replace")
        for header, attribute in names
        if header in record.headers
    }
