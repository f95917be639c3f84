"""Appends to a log as spans. Primary and shadow have an observer each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from otel.tracing.context import checked, derived_trace_id, is_sampled, new_id, parse
from otel.tracing.sampling import Sampling
from otel.tracing.span import Attributes, Endpoint, Link, OperationKind, Record, Span
from transport.contract import Appended, Envelope, Outcome, Remembered
from transport.message.envelope import (
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_REDRIVES,
    HEADER_TRACEPARENT,
    HEADER_TRACESTATE,
)

__all__ = ["AppendSpans"]


class AppendSpans:
    """Records a ``send`` span for every sampled envelope that is published to one log.

    An ``AppendObserver``. Each message has a span of its own, so that a trace is one waterfall;
    ``messaging.batch.message_count`` tells how many shared the append. The worker records the sends
    of dead letters (``otel.tracing.deliveries``): it knows their reason.
    """

    def __init__(self, record: Record, sampling: Sampling, endpoint: Endpoint) -> None:
        self._record = record
        self._sampling = sampling
        self._endpoint = endpoint

    def published(
        self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome], began: int
    ) -> None:
        """Record a span for each envelope that is sampled, with its outcome."""
        ended = time.time_ns()
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            self._sent(envelope, outcome, began, ended, len(envelopes))

    def interrupted(self, envelopes: Sequence[Envelope], error: BaseException, began: int) -> None:
        """Record a failed span for each envelope that is sampled."""
        ended = time.time_ns()
        for envelope in envelopes:
            self._sent(envelope, error, began, ended, len(envelopes))

    def _sent(
        self,
        envelope: Envelope,
        outcome: Outcome | BaseException,
        began: int,
        ended: int,
        together: int,
    ) -> None:
        headers = envelope.headers
        header = headers.get(HEADER_TRACEPARENT)
        if header is not None and not is_sampled(header):
            return
        context = checked((header or "").encode("ascii", "replace"))
        links: Sequence[Link] = ()
        parent_id: int | None = None
        if context is not None:
            parent = parse(context)
            trace_id, parent_id = parent.trace_id, parent.span_id
            links = (Link(trace_id, parent_id),)
        else:
            # Another producer's record, redriven or copied: its trace id is derived from its body.
            trace_id = derived_trace_id(envelope.body)
            if not self._sampling.root(trace_id):
                return
        endpoint = self._endpoint
        attributes = endpoint.attributes("send", "send", endpoint.messages)
        attributes |= _about(envelope, outcome, endpoint)
        if together > 1:
            attributes["messaging.batch.message_count"] = together
        error = None
        if not isinstance(outcome, Appended | Remembered):
            error = type(outcome).__name__
        self._record(
            Span(
                f"send {endpoint.messages}", OperationKind.CLIENT, trace_id, new_id(64), parent_id,
                began, ended, attributes, headers.get(HEADER_TRACESTATE), links=links, error=error,
            )
        )  # fmt: skip


def _about(envelope: Envelope, outcome: Outcome | BaseException, endpoint: Endpoint) -> Attributes:
    headers = envelope.headers
    made: Attributes = {"messaging.destination.partition.id": str(envelope.partition)}
    if isinstance(outcome, Appended | Remembered):
        made |= endpoint.position(envelope.partition, outcome.offset)
        if isinstance(outcome, Remembered):
            made["crossfade.remembered"] = True
    if HEADER_MESSAGE_ID in headers:
        made["crossfade.message_id"] = headers[HEADER_MESSAGE_ID]
    if HEADER_CORRELATION_ID in headers:
        made["messaging.message.conversation_id"] = headers[HEADER_CORRELATION_ID]
    if HEADER_REDRIVES in headers:
        made["crossfade.redrives"] = headers[HEADER_REDRIVES]
    return made
