"""Publishes with aiokafka's producer alone; prints messages per second.

It reads ``{"seconds", "batch", "writers"}`` from standard input. The settings are those of the
service (acks from all, idempotent, no linger, its batch size); the records have the same keys,
headers and bodies. Each writer has ``batch`` sends in flight.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time

import uvloop
from aiokafka import AIOKafkaProducer

from lab.bench.samples import envelopes
from transport.kafka.producer.batch import BATCH_BYTES

_POOL = 40  # batches made in advance, and sent repeatedly: the bytes make no difference to Kafka


async def main() -> None:
    """Publish until the time is up."""
    job = json.load(sys.stdin)
    topic = os.environ["KAFKA_TOPIC"]
    made = envelopes(job["batch"] * _POOL, run="bare")
    batches = [
        [
            (
                e.partition,
                e.key.encode(),
                e.body,
                [(name, value.encode()) for name, value in e.headers.items()],
            )
            for e in itertools.islice(made, job["batch"])
        ]
        for _ in range(_POOL)
    ]
    turn = itertools.cycle(batches)
    written = 0
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
    )
    async with producer:
        deadline = time.perf_counter() + job["seconds"]

        async def write() -> None:
            nonlocal written
            while time.perf_counter() < deadline:
                answers = [
                    await producer.send(topic, value, key=key, partition=p, headers=headers)
                    for p, key, value, headers in next(turn)
                ]
                await asyncio.gather(*answers)
                written += len(answers)

        started = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(job["writers"])))
        print(written / (time.perf_counter() - started))


if __name__ == "__main__":
    uvloop.run(main())
