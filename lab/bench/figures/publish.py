"""Measures publishing by our transport against the bare client, with equal bytes and settings."""

from __future__ import annotations

from lab.bench.figure import Compared, Figure
from lab.bench.plan import Plan
from lab.bench.processes import dumps, program
from lab.bench.stand import Stand

__all__ = ["BARE", "measure"]

_BATCH, _WRITERS = 500, 4
BARE = {
    "redis": ("lab.bench.baselines.raw_xadd", "redis-py's pipelined XADD"),
    "kafka": ("lab.bench.baselines.bare_aiokafka", "bare aiokafka, same settings"),
}
"""By transport: the program that publishes with the bare client, and its name in figures."""


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Run both in turn."""
    await stand.empty_log()
    async with stand.new_transport():
        pass  # connecting makes the topics
    module, name = BARE[stand.transport]
    job = dumps({"seconds": plan.seconds, "batch": _BATCH, "writers": _WRITERS})
    ours, bare = [], []
    for _ in range(plan.runs):
        ours.append(
            float(await program("lab.bench.figures.publisher", job, stand.log_environment()))
        )
        bare.append(float(await program(module, job, stand.log_environment())))
    return [
        Compared(
            name=f"Transport.publish of {_BATCH}, {_WRITERS} at once",
            unit="messages/s",
            ours=ours,
            baseline_name=name,
            baseline=bare,
            target=0.85,
        )
    ]
