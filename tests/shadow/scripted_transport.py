"""A transport that does what it is told to instead of what it should."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from transport.contract import Envelope, Outcome, Transport
from transport.errors import AppendUnknown, TransportUnavailable

__all__ = ["ScriptedTransport", "hang", "lose_reply", "refuse", "work"]

Behaviour = Callable[[Transport, Sequence[Envelope], bool], Awaitable[Sequence[Outcome]]]


async def work(
    inner: Transport, envelopes: Sequence[Envelope], remember: bool
) -> Sequence[Outcome]:
    return await inner.publish(envelopes, remember=remember)


async def refuse(
    inner: Transport, envelopes: Sequence[Envelope], remember: bool
) -> Sequence[Outcome]:
    return [TransportUnavailable("told to")] * len(envelopes)


async def hang(
    inner: Transport, envelopes: Sequence[Envelope], remember: bool
) -> Sequence[Outcome]:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("never")


async def lose_reply(
    inner: Transport, envelopes: Sequence[Envelope], remember: bool
) -> Sequence[Outcome]:
    await inner.publish(envelopes, remember=remember)
    return [AppendUnknown("told to")] * len(envelopes)


class ScriptedTransport:
    """``inner``, but ``publish`` behaves as ``behaviour`` says."""

    def __init__(self, inner: Transport, behaviour: Behaviour = work) -> None:
        self.inner = inner
        self.behaviour = behaviour
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.inner.__aexit__(*exc)

    async def publish(
        self, envelopes: Sequence[Envelope], *, remember: bool = True
    ) -> Sequence[Outcome]:
        self.calls += 1
        return await self.behaviour(self.inner, envelopes, remember)
