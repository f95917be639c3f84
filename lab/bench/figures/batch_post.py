"""Measures ``POST /api/messages:batch`` with 500 messages against pipelined ``XADD``."""

from __future__ import annotations

from lab.bench.figure import Compared, Figure
from lab.bench.figures.publish import BARE
from lab.bench.figures.single_post import fill_table
from lab.bench.load.job import Job
from lab.bench.plan import Plan
from lab.bench.processes import crossfade, dumps, load, program
from lab.bench.stand import Stand

__all__ = ["measure"]

_BATCH = 500
_WRITERS = 4


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Load both in turn, with equally many writers and batches in flight.

    Raises:
        RuntimeError: a batch was refused.
    """
    await stand.empty_log()
    url = await stand.database()
    await fill_table(url, plan.rows_before)
    environment = {**stand.environment(url), "ENABLE_STREAM_CONSUMERS": "false"}
    ours, raw = [], []
    module, name = BARE[stand.transport]
    async with crossfade("serve", stand.folder, environment) as app:
        for run in range(plan.runs):
            result = await load(
                Job(
                    host="127.0.0.1",
                    port=app.port,
                    connections=_WRITERS,
                    batch=_BATCH,
                    seconds=plan.seconds,
                    warmup_seconds=1.0,
                    run=f"batch{run}",
                )
            )
            if result.errors:
                raise RuntimeError(f"{result.errors} batches failed: {result.statuses}")
            ours.append(result.messages_per_second)
            job = {"seconds": plan.seconds, "batch": _BATCH, "writers": _WRITERS}
            out = await program(module, dumps(job), stand.log_environment())
            raw.append(float(out))
    return [
        Compared(
            name=f":batch of {_BATCH}, {_WRITERS} connections",
            unit="messages/s",
            ours=ours,
            baseline_name=f"{name}, the same bytes",
            baseline=raw,
            target=0.5,
        )
    ]
