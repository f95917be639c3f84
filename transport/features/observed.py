"""A decorator that tells observers of every append, so that they count or trace it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from transport.contract import Envelope, Outcome, Transport
from transport.errors import TransportError
from transport.features.forwarding import Forwarding

__all__ = ["AppendObserver", "ObservedTransport"]


class AppendObserver(Protocol):
    """Watches the appends to one log. It is called on the event loop and must never raise."""

    def published(
        self, envelopes: Sequence[Envelope], outcomes: Sequence[Outcome], began: int
    ) -> None:
        """Note that ``publish`` has just returned ``outcomes``, one for each envelope.

        Args:
            envelopes: the envelopes of the call.
            outcomes: the outcome of each.
            began: when the call began, in nanoseconds since the Unix epoch.
        """

    def interrupted(self, envelopes: Sequence[Envelope], error: BaseException, began: int) -> None:
        """Note that ``publish`` was cancelled, or broke the contract by raising ``error``."""


class ObservedTransport(Forwarding):
    """Forwards to ``inner``, and calls each of ``observers`` after every append, in order."""

    def __init__(self, inner: Transport, observers: Sequence[AppendObserver] = ()) -> None:
        super().__init__(inner)
        self._observers = observers

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        """Append, and tell the observers; see the contract."""
        began = time.time_ns()
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._ready().publish(envelopes, remember=remember)
        except TransportError as error:
            outcomes = [error] * len(envelopes)
        except BaseException as error:
            for observer in self._observers:
                observer.interrupted(envelopes, error, began)
            raise
        for observer in self._observers:
            observer.published(envelopes, outcomes, began)
        return outcomes
