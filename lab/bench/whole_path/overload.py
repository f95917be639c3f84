"""Measures overload: a higher rate than the service can persist, and the recovery after it.

A round first measures the ceiling: the rows per second of a closed loop. Then it offers 80 % of the
ceiling, and for each factor a stretch of overload, followed by one at half of the ceiling. If every
connection has an unanswered request, a due request is counted and not sent: in a queue of the
generator, it would measure that queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import asyncpg
import msgspec

from lab.bench.load.job import Job, Result, percentile
from lab.bench.load.requests import client_message_id
from lab.bench.placing import apart
from lab.bench.processes import Running, load
from lab.bench.stand import Stand
from lab.bench.whole_path.contenders import Contender
from lab.bench.whole_path.measure import all_rows, commits

__all__ = ["Overload", "OverloadRound", "Stretch", "measure_overload"]

_Rates = Sequence[tuple[float, float]]  # (messages per second, seconds)
_BELOW, _AFTER = 0.8, 0.5
_BELOW_SECONDS, _AFTER_SECONDS = 4.0, 4.0
_CEILING_CONNECTIONS, _CEILING_SECONDS = 256, 3.0
_WINDOW = 0.2  # seconds; the time after an overload is judged in such windows
_NORMAL_POST, _NORMAL_ROW = 0.1, 0.5  # seconds; p99 of a normal window, or that at 80 %
_BEGINNING = 0.5  # seconds of a stretch whose rows may belong to earlier messages


class Overload(msgspec.Struct, kw_only=True, frozen=True):
    """The load of one measurement."""

    factors: tuple[float, ...] = (1.5, 2, 5)
    """The offered rates, as multiples of the ceiling."""
    connections: int = 2000
    seconds: float = 5.0
    """Length of each stretch of overload."""
    one_core: bool = False
    """Whether the service and its servers share one processor, so that the generator on another
    processor can offer several times their ceiling."""
    settings: Mapping[str, str] = {}


class Stretch(msgspec.Struct, kw_only=True):
    """The outcome of one rate.

    Rates are in messages per second, latencies in seconds from when a message was due.
    """

    offered: float
    accepted: float
    refused: float
    unsent: float
    persisted: float
    """Rows per second committed during the stretch."""
    post: list[float]
    """Median and p99 latency of accepted POSTs."""
    row_p99: float
    refused_p99: float
    recovery: float
    """Seconds from the end of the stretch to the end of the last abnormal window of 0.2 s. A window
    is abnormal if its POST p99 exceeds 0.1 s or its row p99 exceeds 0.5 s, and the value at 80 %. A
    refused message counts as a late row."""


class OverloadRound(msgspec.Struct, kw_only=True):
    """One round of one service."""

    name: str
    ceiling: float
    """Rows per second of a closed loop."""
    below: Stretch
    """The stretch at 80 % of the ceiling."""
    over: dict[float, Stretch]
    """The stretches of overload, by factor."""
    generator_cpu: float
    """The largest share of one core that the generator used."""


async def measure_overload(stand: Stand, contender: Contender, overload: Overload) -> OverloadRound:
    """Measure one round of a new service on a new database."""
    await stand.empty_log()
    url = await contender.database(stand)
    settings = {**stand.environment(url), **contender.settings, **overload.settings}
    connection = await asyncpg.connect(url)
    try:
        async with contender.start(stand.folder, settings) as app:
            with ExitStack() as placed:
                if overload.one_core:
                    placed.enter_context(apart([app.pid, *stand.pids().values()]))
                return await _Round(connection, app, overload).run(contender.name)
    finally:
        await connection.close()
        await stand.postgres.drop_database(url.rsplit("/", 1)[1])


class _Round:
    def __init__(self, connection: asyncpg.Connection, app: Running, overload: Overload) -> None:
        self._connection = connection
        self._app = app
        self._overload = overload
        self._last = 0  # the last row's number
        self._cpu = 0.0
        self._normal = _NORMAL_POST, _NORMAL_ROW

    async def run(self, name: str) -> OverloadRound:
        await self._load(self._closed("warm", 1.5))
        result, committed = await self._load(self._closed("ceiling", _CEILING_SECONDS))
        seconds = max(*committed.values(), *result.answered) - min(result.due)
        ceiling = len(committed) / seconds
        below = await self._open("below", [(_BELOW * ceiling, _BELOW_SECONDS)])
        self._normal = max(_NORMAL_POST, below.post[1]), max(_NORMAL_ROW, below.row_p99)
        over = {
            factor: await self._open(
                f"over{factor:g}",
                [(factor * ceiling, self._overload.seconds), (_AFTER * ceiling, _AFTER_SECONDS)],
            )
            for factor in self._overload.factors
        }
        return OverloadRound(
            name=name, ceiling=ceiling, below=below, over=over, generator_cpu=self._cpu
        )

    def _closed(self, run: str, seconds: float) -> Job:
        return Job(
            host="127.0.0.1",
            port=self._app.port,
            run=run,
            connections=_CEILING_CONNECTIONS,
            seconds=seconds,
            keep_times=True,
        )

    async def _open(self, run: str, rates: _Rates) -> Stretch:
        job = Job(
            host="127.0.0.1",
            port=self._app.port,
            run=run,
            mode="open",
            arrivals="poisson",
            connections=self._overload.connections,
            stretches=list(rates),
            may_wait=False,
            keep_times=True,
        )
        return _judged(*await self._load(job), rates, self._normal)

    async def _load(self, job: Job) -> tuple[Result, dict[int, float]]:
        """Return the result, and the commit time of each message's row, by number."""
        result = await load(job)
        self._cpu = max(self._cpu, result.cpu_share)
        before = self._last
        self._last = await all_rows(self._connection, self._app, before + result.messages)
        committed = await commits(self._connection, before, self._last)
        numbers = {client_message_id(job.run, number): number for number in result.numbers}
        return result, {numbers[key]: at for key, at in committed.items() if key in numbers}


def _judged(
    result: Result,
    committed: Mapping[int, float],
    rates: _Rates,
    normal: tuple[float, float],
) -> Stretch:
    rate, seconds = rates[0]
    began = min(result.due)
    ended = began + seconds
    posts, rows, refused = list[float](), list[float](), list[float]()
    windows: dict[int, list[tuple[float, float]]] = {}
    for number, due, answered, status in zip(
        result.numbers, result.due, result.answered, result.codes, strict=True
    ):
        post = answered - due
        # A message without a row, such as a refused one, counts as infinitely late.
        row = committed.get(number, float("inf")) - due
        if due >= ended:
            windows.setdefault(int((due - ended) / _WINDOW), []).append((post, row))
        elif 200 <= status < 300:
            posts.append(post)
            rows.append(row)
        else:
            refused.append(post)
    late = [number for number, window in windows.items() if _is_late(window, normal)]
    persisted = sum(began + _BEGINNING <= at < ended for at in committed.values())
    return Stretch(
        offered=rate,
        accepted=len(posts) / seconds,
        refused=len(refused) / seconds,
        unsent=result.unsent / seconds,
        persisted=persisted / (seconds - _BEGINNING),
        post=[percentile(sorted(posts), share) for share in (0.5, 0.99)],
        row_p99=percentile(sorted(rows), 0.99),
        refused_p99=percentile(sorted(refused), 0.99),
        recovery=(max(late) + 1) * _WINDOW if late else 0.0,
    )


def _is_late(window: Sequence[tuple[float, float]], normal: tuple[float, float]) -> bool:
    posts, rows = (percentile(sorted(times), 0.99) for times in zip(*window, strict=True))
    return posts > normal[0] or rows > normal[1]
