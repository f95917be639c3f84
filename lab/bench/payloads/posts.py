"""Measures POSTs with a payload store: Redis's memory for large ones, CPU time of small ones."""

from __future__ import annotations

from contextlib import AsyncExitStack

from redis.asyncio import Redis

from lab.bench.figure import Compared, Figure, Limit
from lab.bench.load.job import Job
from lab.bench.payloads.samples import CONTENT_BYTES
from lab.bench.payloads.stores import folder
from lab.bench.processes import Running, crossfade, load
from lab.bench.stand import Stand

__all__ = ["large_in_the_log", "small_beside_without"]

_LARGE_POSTS = 1000
_LOG_BYTES = 1000.0
_PAIRS = 4
_SECONDS = 1.0
_SHARE = 0.98
# Without a fixed hash seed, two equal processes differ by some per cent.
_EQUAL = {"PYTHONHASHSEED": "0", "ENABLE_STREAM_CONSUMERS": "false"}


async def large_in_the_log(stand: Stand) -> Figure:
    """Post messages of 64 KiB, and measure the size of Redis's streams.

    Raises:
        RuntimeError: a message was refused.
    """
    await stand.empty_log()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(folder(stand.folder / "posted", 0))
        environment = {**stand.environment(await stand.database()), **store.settings, **_EQUAL}
        app = await stack.enter_async_context(crossfade("serve", stand.folder, environment))
        posted = await _post(
            app, "large", requests=_LARGE_POSTS, content_bytes=CONTENT_BYTES, conversations=64
        )
        streams, others = await _redis_bytes(environment)
    return Limit(
        name=f"Redis, a message of 64 KiB: its record of {posted:,} in the streams",
        unit="bytes",
        values=[streams / posted],
        limit=_LOG_BYTES,
        details={"remembered key, for IDEMPOTENCY_TTL_SECONDS": round(others / posted, 1)},
    )


async def _redis_bytes(environment: dict[str, str]) -> tuple[int, int]:
    """Return the memory of the streams and of all other keys, in bytes."""
    sizes = {True: 0, False: 0}
    async with Redis(
        host=environment["REDIS_HOST"], port=int(environment["REDIS_PORT"]), db=1
    ) as client:
        async for key in client.scan_iter(count=1000):
            is_stream = await client.type(key) == b"stream"
            sizes[is_stream] += await client.memory_usage(key, samples=0) or 0
    return sizes[True], sizes[False]


async def small_beside_without(stand: Stand, runs: int) -> Figure:
    """Post small messages to a process with a store and to one without, in turn.

    It compares CPU time, since the rates vary with the load of the machine.
    """
    await stand.empty_log()
    with_store, without = list[float](), list[float]()
    for run in range(runs):
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(folder(stand.folder / f"small{run}", 0))
            environment = {**stand.environment(await stand.database()), **_EQUAL}
            sides = [(with_store, {**environment, **store.settings}), (without, environment)]
            if run % 2:
                sides.reverse()  # the process that starts first may have an advantage
            apps = [
                await stack.enter_async_context(crossfade("serve", stand.folder, settings))
                for _, settings in sides
            ]
            used, posted = [0.0, 0.0], [0, 0]
            for pair in range(-1, _PAIRS):  # the first pair warms both up
                for side in (0, 1) if pair % 2 else (1, 0):
                    before = apps[side].cpu_seconds()
                    count = await _post(apps[side], f"small{run}-{pair}-{side}", seconds=_SECONDS)
                    if pair >= 0:
                        used[side] += apps[side].cpu_seconds() - before
                        posted[side] += count
            for (rates, _), seconds, count in zip(sides, used, posted, strict=True):
                rates.append(count / seconds)
    return Compared(
        name="small POSTs, with a payload store",
        unit="POSTs a second of CPU",
        ours=with_store,
        baseline_name="the same process without PAYLOAD_STORE",
        baseline=without,
        target=_SHARE,
    )


async def _post(
    app: Running,
    run: str,
    *,
    seconds: float = 120.0,
    requests: int | None = None,
    content_bytes: int = 64,
    conversations: int = 1000,
) -> int:
    job = Job(
        host="127.0.0.1",
        port=app.port,
        run=run,
        seconds=seconds,
        requests=requests,
        content_bytes=content_bytes,
        conversations=conversations,
    )
    result = await load(job)
    if result.errors or not result.messages:
        raise RuntimeError(f"{result.messages} posted: {result.statuses}")
    return result.messages
