"""A transport whose appends are spans. Wraps one log: primary and shadow are wrapped each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from otel.tracing.context import checked, derived_trace_id, is_sampled, new_id, parse
from otel.tracing.sampling import Sampling
from otel.tracing.span import Attributes, Endpoint, Link, OperationKind, Record, Span
from transport.contract import Appended, Envelope, Outcome, Remembered, Transport
from transport.envelope import (
    HEADER_CORRELATION_ID,
    HEADER_MESSAGE_ID,
    HEADER_REDRIVES,
    HEADER_TRACEPARENT,
    HEADER_TRACESTATE,
)
from transport.forwarding import Forwarding

__all__ = ["TracedTransport"]


class TracedTransport(Forwarding):
    """``inner``, with a ``send`` span for every sampled envelope that is published.

    One for each message and not one for a whole append, so that a trace is one waterfall; what they
    shared is told by ``messaging.batch.message_count``. Sends of dead letters are the worker's
    (:mod:`otel.tracing.deliveries`), which knows why.
    """

    def __init__(
        self, inner: Transport, record: Record, sampling: Sampling, endpoint: Endpoint
    ) -> None:
        super().__init__(inner)
        self._record = record
        self._sampling = sampling
        self._endpoint = endpoint

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append, and record a span for each envelope that is sampled."""
        began = time.time_ns()
        outcomes: Sequence[Outcome] | None = None
        failure: BaseException | None = None
        try:
            outcomes = await self.inner.publish(envelopes, remember=remember)
        except BaseException as error:
            failure = error
            raise
        finally:
            ended = time.time_ns()
            for index, one in enumerate(envelopes):
                if (context := one.headers.get(HEADER_TRACEPARENT)) is None or is_sampled(context):
                    outcome = outcomes[index] if outcomes is not None else failure
                    self._sent(one, outcome, began, ended, len(envelopes))
        return outcomes

    def _sent(
        self,
        envelope: Envelope,
        outcome: Outcome | BaseException | None,
        began: int,
        ended: int,
        together: int,
    ) -> None:
        headers = envelope.headers
        context = checked(headers.get(HEADER_TRACEPARENT, "").encode("ascii", "replace"))
        links: Sequence[Link] = ()
        parent_id: int | None = None
        if context is not None:
            parent = parse(context)
            trace_id, parent_id = parent.trace_id, parent.span_id
            links = (Link(trace_id, parent_id),)
        else:
            # Another producer's record, redriven or copied: the trace of its body, as everywhere.
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


def _about(
    envelope: Envelope, outcome: Outcome | BaseException | None, endpoint: Endpoint
) -> Attributes:
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
