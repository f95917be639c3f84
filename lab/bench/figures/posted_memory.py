"""Measures the ingress's resident size while a backlog's number of messages is posted."""

from __future__ import annotations

from lab.bench.figure import Figure, Limit
from lab.bench.load.job import Job
from lab.bench.memory import Sampler, growth
from lab.bench.plan import Plan
from lab.bench.processes import crossfade, load
from lab.bench.stand import Stand

__all__ = ["measure"]


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Post as many messages as the backlog has, one per request, and sample memory.

    Raises:
        RuntimeError: a message was refused.
    """
    await stand.empty_log()
    url = await stand.database()
    environment = {**stand.environment(url), "ENABLE_STREAM_CONSUMERS": "false"}
    async with (
        crossfade("serve", stand.folder, environment) as app,
        Sampler(app.pid) as sampler,
    ):
        result = await load(
            Job(
                host="127.0.0.1",
                port=app.port,
                requests=plan.backlog,
                seconds=300.0,
                run="memory",
                conversations=20_000,
            )
        )
    if result.errors or result.messages < plan.backlog:
        raise RuntimeError(f"{result.messages} of {plan.backlog} posted: {result.statuses}")
    return [
        Limit(
            name="ingress memory: growth, second half of the posts",
            unit="MB",
            values=[growth(sampler.samples)],
            limit=8.0,
            details={"ingress_rss_mb": sampler.summary()},
        )
    ]
