"""Compares our Kafka producer with aiokafka's and confluent-kafka's.

Run it with ``python -m lab.bench.kafka_producers``.

All run in one process against one broker, with the same records (400 bytes, 16 partitions,
acks=all, idempotent), in interleaved rounds. A tick of ``n`` records ends when all are
acknowledged, as in the ingress. confluent-kafka is not a dependency: without it, its rows are left
out.

* ``ours``: ``Transport.publish``, with all of its work on an envelope.
* ``aiokafka``: ``AIOKafkaProducer.send`` for each record, then awaits the futures.
* ``confluent``: ``Producer.produce`` for each record, with one thread that polls.
* ``confluent aio``: ``AIOProducer``, without headers, which it does not support.
"""

from __future__ import annotations

import asyncio
import importlib
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from lab.bench.logs import LOGS
from lab.bench.samples import envelopes
from transport.contract import Appended, Envelope
from transport.kafka.records import outgoing_envelope
from transport.registry import create
from transport.settings import TransportSettings

_TICKS = (1, 16, 64, 256)
_RECORD_BYTES = 400
_LONGEST = 30.0  # seconds
_LINGER_MS = 0.0  # librdkafka's linger.ms; 1 ms gave the same times

Publish = Callable[[Sequence[Envelope]], Awaitable[None]]


class _Samples:
    """The times of one producer for ticks of one size."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.cpu: list[float] = []

    async def round(self, publish: Publish, ticks: Sequence[Sequence[Envelope]]) -> None:
        """Publish ``ticks``, one after the other."""
        began = time.process_time()
        for tick in ticks:
            started = time.perf_counter()
            await publish(tick)
            self.latencies.append(time.perf_counter() - started)
        records = sum(len(tick) for tick in ticks)
        self.cpu.append((time.process_time() - began) / records)


@asynccontextmanager
async def _ours(settings: TransportSettings) -> AsyncIterator[Publish]:
    async with create("kafka", settings) as transport:

        async def publish(tick: Sequence[Envelope]) -> None:
            outcomes = await transport.publish(tick)
            assert all(isinstance(outcome, Appended) for outcome in outcomes), outcomes

        yield publish


@asynccontextmanager
async def _aiokafka(settings: TransportSettings) -> AsyncIterator[Publish]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, acks="all", enable_idempotence=True
    )
    async with producer:

        async def publish(tick: Sequence[Envelope]) -> None:
            futures = []
            for envelope in tick:
                record = outgoing_envelope(envelope)
                futures.append(
                    await producer.send(
                        settings.kafka_topic, record.value, record.key, envelope.partition,
                        headers=record.headers,
                    )
                )  # fmt: skip
            await asyncio.gather(*futures)

        yield publish


def _confluent_settings(settings: TransportSettings) -> dict[str, Any]:
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": _LINGER_MS,
        "log_level": 0,
    }


@asynccontextmanager
async def _confluent(settings: TransportSettings) -> AsyncIterator[Publish]:
    producer = importlib.import_module("confluent_kafka").Producer(_confluent_settings(settings))
    loop, closing = asyncio.get_running_loop(), threading.Event()

    def poll() -> None:
        while not closing.is_set():
            producer.poll(0.1)

    thread = threading.Thread(target=poll)
    thread.start()

    async def publish(tick: Sequence[Envelope]) -> None:
        done, left = asyncio.Event(), len(tick)

        def acknowledged(error: Any, _record: Any) -> None:  # in the thread that polls
            nonlocal left
            assert error is None, error
            left -= 1
            if left == 0:
                loop.call_soon_threadsafe(done.set)

        for envelope in tick:
            record = outgoing_envelope(envelope)
            producer.produce(
                settings.kafka_topic, record.value, record.key, envelope.partition,
                headers=list(record.headers), on_delivery=acknowledged,
            )  # fmt: skip
        await done.wait()

    try:
        yield publish
    finally:
        closing.set()
        thread.join()


@asynccontextmanager
async def _confluent_aio(settings: TransportSettings) -> AsyncIterator[Publish]:
    aio = importlib.import_module("confluent_kafka.aio")
    producer = aio.AIOProducer(_confluent_settings(settings))

    async def publish(tick: Sequence[Envelope]) -> None:
        futures = [
            await producer.produce(
                settings.kafka_topic, envelope.body, envelope.key, partition=envelope.partition
            )
            for envelope in tick
        ]
        await producer.flush()
        await asyncio.gather(*futures)

    try:
        yield publish
    finally:
        await producer.close()


def _producers() -> dict[str, Callable[[TransportSettings], Any]]:
    producers: dict[str, Callable[[TransportSettings], Any]] = {
        "ours": _ours,
        "aiokafka": _aiokafka,
    }
    try:
        importlib.import_module("confluent_kafka.aio")
    except ImportError:
        typer.echo("confluent-kafka is not installed and not measured: pip install confluent-kafka")
    else:
        producers |= {"confluent": _confluent, "confluent aio": _confluent_aio}
    return producers


def _ticks(size: int, count: int) -> list[list[Envelope]]:
    body = b"x" * _RECORD_BYTES
    made = envelopes(size * count, run="producers")
    every = [msgspec.structs.replace(envelope, body=body) for envelope in made]
    return [every[first : first + size] for first in range(0, len(every), size)]


async def _measure(folder: Path, rounds: int) -> dict[int, dict[str, _Samples]]:
    log = LOGS["kafka"](folder)
    await log.start()
    try:
        environment = {name.lower(): value for name, value in log.environment().items()}
        settings = TransportSettings(**environment)  # type: ignore[arg-type]
        async with AsyncExitStack() as stack:
            producers = {
                name: await stack.enter_async_context(make(settings))
                for name, make in _producers().items()
            }
            found = {}
            for size in _TICKS:
                ticks = _ticks(size, 40)
                samples = {name: _Samples() for name in producers}
                for turn in range(-1, rounds):
                    for name, publish in producers.items():
                        kept = samples[name] if turn >= 0 else _Samples()  # the first: warming up
                        async with asyncio.timeout(_LONGEST):
                            await kept.round(publish, ticks)
                found[size] = samples
            return found
    finally:
        await log.stop()


def main(
    rounds: Annotated[int, typer.Option(help="Interleaved rounds of 40 ticks for each.")] = 21,
) -> None:
    """Measure, and print a table: medians of all rounds."""
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as folder:
        found = uvloop.run(_measure(Path(folder), rounds))
    table = Table(
        "tick", "producer", "p50 ms", "p99 ms", "records/s", "CPU us/record", "p50, ratio"
    )
    for size, samples in found.items():
        ours = statistics.median(samples["ours"].latencies)
        for name, of in samples.items():
            median = statistics.median(of.latencies)
            p99 = statistics.quantiles(of.latencies, n=100)[-1]
            table.add_row(
                str(size), name, f"{median * 1e3:.2f}", f"{p99 * 1e3:.2f}", f"{size / median:,.0f}",
                f"{statistics.median(of.cpu) * 1e6:.1f}", f"{median / ours:.2f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
