"""Publishes with ``Transport.publish`` alone; prints messages per second.

It reads ``{"seconds", "batch", "writers"}`` from standard input. Each writer has one call of
``batch`` envelopes in flight.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time

import uvloop

from lab.bench.samples import envelopes
from transport.contract import Appended
from transport.registry import create
from transport.settings import TransportSettings

_POOL = 40


async def main() -> None:
    """Publish until the time is up."""
    job = json.load(sys.stdin)
    made = envelopes(job["batch"] * _POOL, run="ours")
    batches = [list(itertools.islice(made, job["batch"])) for _ in range(_POOL)]
    turn = itertools.cycle(batches)
    settings = TransportSettings()
    written = 0
    async with create(settings.transport, settings) as transport:
        deadline = time.perf_counter() + job["seconds"]

        async def write() -> None:
            nonlocal written
            while time.perf_counter() < deadline:
                outcomes = await transport.publish(next(turn), remember=False)
                if not all(isinstance(outcome, Appended) for outcome in outcomes):
                    raise RuntimeError(f"not appended: {outcomes}")
                written += len(outcomes)

        started = time.perf_counter()
        await asyncio.gather(*(write() for _ in range(job["writers"])))
        print(written / (time.perf_counter() - started))


if __name__ == "__main__":
    uvloop.run(main())
