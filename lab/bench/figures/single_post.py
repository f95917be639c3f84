"""Measures single POSTs: durable, idempotent, one ingress process, 64 connections."""

from __future__ import annotations

from contextlib import AsyncExitStack

import asyncpg

from lab.bench.figure import Compared, Figure
from lab.bench.load.job import Job, Result
from lab.bench.placing import apart
from lab.bench.plan import Plan
from lab.bench.processes import Running, crossfade, load, uvicorn_app
from lab.bench.stand import Stand

__all__ = ["fill_table", "measure"]

_CONNECTIONS = 64
_NO_WORKERS = {"ENABLE_STREAM_CONSUMERS": "false"}


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Load the service, a bare handler, and the common solution in turn."""
    await stand.empty_log()
    url = await stand.database()
    await fill_table(url, plan.rows_before)
    async with AsyncExitStack() as stack:
        environment = {**stand.environment(url), **_NO_WORKERS}
        apps = {
            "ours": crossfade("serve", stand.folder, environment),
            "bare": uvicorn_app("lab.bench.baselines.bare_fastapi:app", stand.folder, {}),
        }
        if stand.transport == "redis":
            apps["usual"] = uvicorn_app(
                "lab.bench.baselines.usual_fastapi:app",
                stand.folder,
                {**stand.log_environment(), "REDIS_STREAM_DB": "2", **_NO_WORKERS},
            )
        running = {name: await stack.enter_async_context(app) for name, app in apps.items()}
        results: dict[str, list[Result]] = {name: [] for name in running}
        with apart(app.pid for app in running.values()) as placement:
            for name, app in running.items():
                # Warm-up, not counted: it fills caches, opens connections, and lets a JVM compile.
                await _load(app, plan.warm_seconds, f"warm-{name}")
            for run in range(plan.runs):
                for name, app in running.items():
                    await stand.log.clear()
                    before = await stand.backlog()
                    result = await _load(app, plan.seconds, f"{name}{run}")
                    results[name].append(result)
                    if name == "ours":
                        _all_in_log(result, await stand.backlog() - before)
    ours = [r.messages_per_second for r in results["ours"]]
    return [
        Compared(
            name=f"single POST, {_CONNECTIONS} connections",
            unit="/s",
            ours=ours,
            baseline_name=what,
            baseline=[r.messages_per_second for r in results[name]],
            target=target,
            details={
                "placement": placement,
                **_details("ours", results["ours"]),
                **_details(name, results[name]),
            },
        )
        for name, what, target in (
            ("bare", "bare FastAPI handler that does nothing", 2.5),
            ("usual", "FastAPI + redis-py, one Lua call", 5.0),
        )
        if name in running
    ]


async def fill_table(url: str, rows: int) -> None:
    """Insert rows of other messages."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "INSERT INTO messages (id, idempotency_key, correlation_id, conversation_id, sender_id,"
            " client_message_id, recipient_ids, content, content_type, fingerprint, accepted_at,"
            " transport, partition, log_offset)"
            " SELECT gen_random_uuid(), 'before:' || n, n, 'before-' || n % 1000, 'before', n,"
            " '{}', repeat('x', 64), 'text', md5(n::text), now(), 'redis', 0, '0-' || n"
            f" FROM generate_series(1, {rows}) AS n"
        )
        await connection.execute("ANALYZE messages")
    finally:
        await connection.close()


async def _load(app: Running, seconds: float, run: str) -> Result:
    result = await load(
        Job(
            host="127.0.0.1",
            port=app.port,
            connections=_CONNECTIONS,
            seconds=seconds,
            warmup_seconds=1.0,
            run=run,
        )
    )
    if result.errors:
        raise RuntimeError(f"{run}: {result.errors} requests failed: {result.statuses}")
    return result


def _all_in_log(result: Result, there: int) -> None:
    # The log also has the warm-up requests, so it may have more records than counted messages.
    if there < result.messages:
        raise RuntimeError(f"{result.messages} messages were acknowledged, {there} are in the log")


def _details(name: str, results: list[Result]) -> dict[str, str | float | dict[str, int]]:
    last = results[-1]
    return {
        f"{name}_p50_ms": round(last.p50 * 1000, 2),
        f"{name}_p99_ms": round(last.p99 * 1000, 2),
        f"{name}_generator_cpu": round(last.cpu_share, 2),
        f"{name}_statuses": last.statuses,
    }
