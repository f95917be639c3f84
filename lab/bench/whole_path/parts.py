"""The parts of ``make bench`` that measure the whole path."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import msgspec

from lab.bench.figure import Compared, Figure, Limit, Point
from lab.bench.figures.drain import drain
from lab.bench.figures.single_post import fill_table
from lab.bench.logs import KafkaLog
from lab.bench.plan import Plan
from lab.bench.stand import Stand
from lab.bench.whole_path.contenders import CONTENDERS, Contender
from lab.bench.whole_path.measure import measure
from lab.bench.whole_path.offered import Offered
from lab.bench.whole_path.overload import Overload, OverloadRound, measure_overload
from lab.bench.whole_path.turns import there_and_back

__all__ = [
    "as_it_grows",
    "at_rates",
    "beside_others",
    "on_partitions",
    "overloaded",
    "with_a_shadow",
]

_OURS = CONTENDERS["crossfade"]
_OPEN_CONNECTIONS = 256
_PARTITIONS = (16, 64, 256)
_SHADOW_MODES = ("async", "sync")


async def beside_others(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure each service with 64 connections, closed loop; then ours with other connections."""
    usual = Offered(seconds=plan.seconds)
    points = await _rounds(stand, plan, [(contender, usual) for contender in _comparable(stand)])
    others = [(_OURS, msgspec.structs.replace(usual, connections=n)) for n in plan.connections]
    compared = [
        _compared(points, f"whole path, {usual.label}: beside {name}", (_OURS.name, name), target)
        for name, target in (("go", 1.2), ("fastapi", 1.5), ("faststream", 4.0))
        if any(point.name == name for point in points)
    ]
    return [*compared, *points, *await _rounds(stand, plan, others)]


async def at_rates(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure latency at several rates with Poisson arrivals."""
    contenders = [service for service in _comparable(stand) if service.name in {"crossfade", "go"}]
    ceiling = (await measure(stand, _OURS, Offered(seconds=plan.seconds))).rows_per_second
    rates = [rate if rate > 1 else round(rate * ceiling, -2) for rate in plan.rates]
    loads = [
        (contender, Offered(connections=_OPEN_CONNECTIONS, rate=rate, seconds=plan.seconds))
        for rate in rates
        for contender in contenders
    ]
    return list(await _rounds(stand, plan, loads))


async def on_partitions(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure the same load with more partitions."""
    usual = Offered(seconds=plan.seconds)
    loads = [msgspec.structs.replace(usual, partitions=number) for number in _PARTITIONS]
    points = await _rounds(stand, plan, [(_OURS, load) for load in loads])
    few, *_, many = loads
    return [_between(points, "whole path, 256 partitions beside 16", many, few, 0.85), *points]


async def as_it_grows(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure the same load and a drain, with a large and an empty table; then a large backlog."""
    url = await _OURS.database(stand)
    await fill_table(url, plan.rows_large)
    empty = Offered(seconds=plan.seconds)
    large = msgspec.structs.replace(empty, what=f"{plan.rows_large:,} rows in the table")
    points, drains = list[Point](), dict[str, list[float]]()
    for turn in range(plan.rounds):
        points.append(await measure(stand, _OURS, empty))
        points.append(await measure(stand, _OURS, large, url=url))
        for name, into in (("an empty table", None), ("a large one", url)):
            drained = await drain(stand, plan.backlog_small, f"{name}{turn}", url=into)
            drains.setdefault(name, []).append(drained.rate)
    drained = await drain(stand, plan.backlog_large, "backlog")
    rows = f"{plan.rows_large:,} rows beside an empty table"
    return [
        _between(points, f"whole path, {rows}", large, empty, 0.95),
        _drains(f"drain, {rows}", drains["a large one"], drains["an empty table"], 0.8),
        _drains(
            f"drain, a backlog of {plan.backlog_large:,} beside {plan.backlog_small:,}",
            [drained.rate],
            drains["an empty table"],
            0.95,
        ),
        *points,
    ]


def _drains(name: str, ours: list[float], baseline: list[float], target: float) -> Compared:
    return Compared(
        name=name,
        unit="rows/s",
        ours=ours,
        baseline_name="empty, small",
        baseline=baseline,
        target=target,
    )


async def with_a_shadow(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure the same load with Kafka as shadow, with all servers on this machine."""
    if stand.transport != "redis":
        return []
    async with _kafka(stand) as environment:
        alone = Offered(seconds=plan.seconds)
        loads = [alone]
        for mode in _SHADOW_MODES:
            settings = {
                **environment,
                "TRANSPORT": "redis",
                "TRANSPORT_SHADOW": "kafka",
                "TRANSPORT_SHADOW_MODE": mode,
            }
            loads.append(msgspec.structs.replace(alone, what=f"{mode} shadow", settings=settings))
        points = await _rounds(stand, plan, [(_OURS, load) for load in loads])
    return list(points)


async def overloaded(stand: Stand, plan: Plan) -> list[Figure]:
    """Measure several times the ceiling of a service that shares one processor with its servers."""
    figures = list[Figure]()
    for connections in plan.overload_connections:
        overload = Overload(connections=connections, seconds=plan.seconds, one_core=True)
        rounds = [await measure_overload(stand, _OURS, overload) for _ in range(plan.rounds)]
        figures += _of_overload(rounds, f"overload, {connections:,} connections")
    return figures


def _of_overload(rounds: Sequence[OverloadRound], name: str) -> list[Figure]:
    def limit(what: str, values: Iterable[float], most: float) -> Limit:
        return Limit(name=f"{name}, {what}", unit="s", values=list(values), limit=most)

    ceilings = [r.ceiling for r in rounds]
    figures: list[Figure] = [
        limit("0.8 of the ceiling: POST p99", (r.below.post[1] for r in rounds), 0.05)
    ]
    for factor in rounds[0].over:
        stretches = [r.over[factor] for r in rounds]
        figures += [
            Compared(
                name=f"{name}, {factor:g} x: persisted",
                unit="rows/s",
                ours=[stretch.persisted for stretch in stretches],
                baseline_name="the ceiling",
                baseline=ceilings,
                target=0.9,
                details={
                    what: round(statistics.median(getattr(stretch, what) for stretch in stretches))
                    for what in ("offered", "accepted", "refused", "unsent")
                },
            ),
            limit(
                f"{factor:g} x: accepted POST p99", (stretch.post[1] for stretch in stretches), 1.0
            ),
            limit(f"{factor:g} x: recovery", (stretch.recovery for stretch in stretches), 2.0),
        ]
    return figures


@asynccontextmanager
async def _kafka(stand: Stand) -> AsyncIterator[dict[str, str]]:
    log = KafkaLog(stand.folder)
    await log.start()
    stand.others["shadow"] = log.pid
    try:
        yield log.environment()
    finally:
        del stand.others["shadow"]
        await log.stop()


def _comparable(stand: Stand) -> list[Contender]:
    """Return the services that can be measured; the baselines support only Redis."""
    if stand.transport != "redis":
        return [service for service in CONTENDERS.values() if service.name.startswith("crossfade")]
    return [service for service in CONTENDERS.values() if service.needs()]


async def _rounds(
    stand: Stand, plan: Plan, loads: Iterable[tuple[Contender, Offered]]
) -> list[Point]:
    """Measure each load in turn, in alternating order."""
    return [
        await measure(stand, contender, offered)
        for contender, offered in there_and_back(loads, plan.rounds)
    ]


def _compared(
    points: Sequence[Point], name: str, services: tuple[str, str], target: float
) -> Compared:
    ours, other = ([p.rows_per_second for p in points if p.name == service] for service in services)
    return Compared(
        name=name,
        unit="rows/s",
        ours=ours,
        baseline_name=services[1],
        baseline=other,
        target=target,
    )


def _between(
    points: Sequence[Point], name: str, load: Offered, beside: Offered, target: float
) -> Compared:
    ours, base = ([p.rows_per_second for p in points if p.load == o.label] for o in (load, beside))
    return Compared(
        name=name,
        unit="rows/s",
        ours=ours,
        baseline_name=beside.label,
        baseline=base,
        target=target,
    )
