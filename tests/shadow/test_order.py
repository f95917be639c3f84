"""Acknowledged-before pairs stand in the same order in both logs, whatever fails in between."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence

import pytest

from tests.shadow.log_pair import LogPair, everything
from tests.shadow.scripted_transport import ScriptedTransport, lose_reply, refuse, work
from tests.support.eventually import eventually
from transport.conformance.envelopes import contents, message
from transport.contract import Envelope, Outcome, Record, Transport
from transport.errors import AppendUnknown, TransportError
from transport.memory import MemoryLog, MemoryTransport
from transport.settings import TransportSettings
from transport.shadow.mirror import Mirror
from transport.shadow.transport import ShadowTransport

_GIVE_UP_AFTER = 3
_SENT, _KEPT = 15, 12
"""What each client does at least before it is judged: where the machine pauses, the breaker opens
and more is given up, so it goes on until enough is acknowledged."""


class _Client:
    """Sends one message after the other, each until it is acknowledged or given up."""

    def __init__(self, name: str, partition: int, draw: random.Random) -> None:
        self.name = name
        self.acknowledged: list[str] = []
        self._partition = partition
        self._draw = draw
        self.sent = 0

    async def send(self, processes: Sequence[Transport]) -> None:
        text = f"{self.name}-{self.sent}"
        self.sent += 1
        sent = message(text, partition=self._partition, of=processes[0])
        for _ in range(_GIVE_UP_AFTER if self._draw.random() < 0.3 else 200):
            # Each attempt at whichever process the balancer picks.
            (outcome,) = await self._draw.choice(processes).publish([sent])
            if not isinstance(outcome, TransportError):
                self.acknowledged.append(text)
                return
            await asyncio.sleep(0.002)


def _firsts(records: Sequence[Record]) -> list[str]:
    """Return the messages of a log, each at its first place."""
    return list(dict.fromkeys(contents(records)))


def _judge(clients: Sequence[_Client], logs: Sequence[Sequence[Record]]) -> None:
    for log in logs:
        stands = _firsts(log)
        for client in clients:
            kept = set(client.acknowledged)
            assert [text for text in stands if text in kept] == client.acknowledged


@pytest.mark.parametrize("seed", range(8))
async def test_order_holds_under_random_faults_of_either_log(seed: int) -> None:
    draw = random.Random(seed)
    settings = TransportSettings(
        stream_partitions=2, transport_shadow_mode="sync", transport_shadow_timeout_ms=50
    )
    primary, shadow = MemoryLog(settings), MemoryLog(settings)

    async def late(inner: Transport, sent: Sequence[Envelope], remember: bool) -> Sequence[Outcome]:
        """Answer that the outcome is unknown, and append after the others have."""
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, lambda: loop.create_task(inner.publish(sent, remember=False)))
        return [AppendUnknown("late")] * len(sent)

    def bad(log: MemoryLog) -> ScriptedTransport:
        async def either(
            inner: Transport, sent: Sequence[Envelope], remember: bool
        ) -> Sequence[Outcome]:
            await asyncio.sleep(draw.random() * 0.004)
            (chosen,) = draw.choices([work, refuse, lose_reply, late], [6, 1, 1, 1])
            return await chosen(inner, sent, remember)

        return ScriptedTransport(MemoryTransport(settings, log=log), either)

    clients = [_Client(f"c{i}", i % 2, draw) for i in range(6)]

    def process() -> ShadowTransport:
        return ShadowTransport(
            bad(primary), Mirror(bad(shadow), primary="memory", settings=settings)
        )

    async with process() as one, process() as two:

        async def go(client: _Client) -> None:
            while client.sent < _SENT or len(client.acknowledged) < _KEPT:
                await client.send([one, two])

        await asyncio.gather(*(go(client) for client in clients))
    _judge(
        clients,
        [await everything(MemoryTransport(settings, log=log)) for log in (primary, shadow)],
    )


async def test_order_holds_on_real_servers_whose_network_misbehaves(pair: LogPair) -> None:
    draw = random.Random(42)
    clients = [_Client(f"c{i}", i % 4, draw) for i in range(8)]
    limit = {"transport_shadow_timeout_ms": 300, "redis_timeout_ms": 300, "kafka_timeout_ms": 500}
    async with pair.process("sync", **limit) as one, pair.process("sync", **limit) as two:
        done = asyncio.Event()

        async def hurt() -> None:
            while not done.is_set():
                proxy = draw.choice(list(pair.proxies.values()))
                kind = draw.choice(["cut", "lose", "silence"])
                if kind == "cut":
                    proxy.reset()
                elif kind == "lose":
                    proxy.lose_reply_to(b"conversation-", times=2)
                else:
                    proxy.black_hole()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), draw.uniform(0.1, 0.5))
                proxy.heal()

        async def go(client: _Client) -> None:
            while not done.is_set():
                await client.send([one.transport, two.transport])

        hurting = asyncio.create_task(hurt())
        going = [asyncio.create_task(go(client)) for client in clients]
        await asyncio.sleep(5)

        def hurt_enough() -> bool:
            counted = one.watch.counts + two.watch.counts
            hurt = counted["unknown"] + counted["timed_out"] + counted["failed"]
            return hurt > 0 and all(len(client.acknowledged) >= _KEPT for client in clients)

        await eventually(hurt_enough)
        done.set()
        await hurting
        await asyncio.gather(*going)
    _judge(clients, [await pair.stands(pair.primary), await pair.stands(pair.shadow)])


async def test_the_copies_of_one_process_keep_its_order_in_async_mode() -> None:
    draw = random.Random(1)
    settings = TransportSettings(stream_partitions=2)
    primary, shadow = MemoryLog(settings), MemoryLog(settings)

    async def shaky(
        inner: Transport, sent: Sequence[Envelope], remember: bool
    ) -> Sequence[Outcome]:
        await asyncio.sleep(draw.random() * 0.004)
        return await draw.choice([work, work, refuse])(inner, sent, remember)

    mirror = Mirror(
        ScriptedTransport(MemoryTransport(settings, log=shadow), shaky),
        primary="memory",
        settings=settings,
    )
    clients = [_Client(f"c{i}", i % 2, draw) for i in range(6)]
    async with ShadowTransport(MemoryTransport(settings, log=primary), mirror) as transport:

        async def go(client: _Client) -> None:
            for _ in range(30):
                await client.send([transport])
                await asyncio.sleep(draw.random() * 0.005)

        await asyncio.gather(*(go(client) for client in clients))
    _judge(clients, [await everything(MemoryTransport(settings, log=shadow))])
