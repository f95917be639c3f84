"""Helpers that append to a log, also during a failover, and read it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.eventually import eventually
from transport.conformance.envelopes import contents, message
from transport.contract import Appended, Envelope, Topic, Transport
from transport.errors import TransportError

__all__ = ["append", "append_at_last", "texts"]


async def append(log: Transport, envelopes: Sequence[Envelope]) -> None:
    """Append envelopes; fail unless all are new to the log."""
    assert {type(it) for it in await log.publish(envelopes)} == {Appended}


async def append_at_last(log: Transport, text: str, partition: int = 0) -> list[str]:
    """Append one message, with retries until it succeeds; return the errors."""
    envelope = message(text, partition=partition, of=log)
    refusals: list[str] = []

    async def appended() -> bool:
        (outcome,) = await log.publish([envelope])
        if isinstance(outcome, TransportError):
            refusals.append(str(outcome))
        return not isinstance(outcome, TransportError)

    await eventually(appended)
    return refusals


async def texts(log: Transport, partition: int = 0) -> list[str]:
    """Return the texts of a partition's records, up to a thousand."""
    return contents(await log.read(Topic.MESSAGES, partition))
