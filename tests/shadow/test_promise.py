"""Promise 8, on a real ingress process: the shadow never hurts the primary.

The same load goes in turns to a process without a shadow and to one whose shadow is refusing,
hanging, cut off or slow. The short version runs where anything else may run: what disturbs a turn
only adds to its p99, so it compares each side's quietest turn, and allows some milliseconds more.

The long one (``make chaos``) holds the p99 to within 10 %. Two processes without a shadow take
turns with the one that has one, and each turn is compared with those beside it: so the machine may
get slower or faster meanwhile. The p99 of one turn scatters by more than 10 % (it is the fortieth
worst of 4,000 answers, some 2 ms), so many turns are asked, by a sign test: that the median turn is
within 10 % is taken as shown when so many are that it would hardly be so otherwise. No answer after
all turns is a failure. What the two without a shadow differ by is told beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import median

import pytest

from benchmarks.load.job import Job, Result, percentile
from benchmarks.metrics_page import fetch
from benchmarks.processes import Running, crossfade, load
from compose.local.valkey import ValkeyServer
from tests.shadow.faults import FAULTS
from tests.shadow.pair import Pair
from tests.support.eventually import eventually
from tests.support.services import RedisAddress

Server = ValkeyServer | RedisAddress
_RATE = 1000.0
_log = logging.getLogger(__name__)


_FEWEST, _MOST, _SECONDS = 2, 10, 0.6
"""Turns of the short version: after the first, a side that was disturbed gets others. A shadow that
is felt is felt in every turn."""
_SLACK = 0.01
"""Seconds by which the p99 may be more than 10 % longer there."""
_STRICT_SECONDS, _COLD = 4.3, 300
"""Seconds of a turn of the long one, and how many of its first requests are not judged: they find
a process that had nothing to do in the others' turns, and alone are more than one in a hundred."""
_LOOKS = {15: 12, 23: 17, 31: 22}
"""After so many turns, how many within 10 % are enough. If a turn were as often outside as within,
each would come about once in 55 times or less (binomial), so all three together once in twenty."""


def _environment(pair: Pair, redis: Server, database_url: str) -> dict[str, str]:
    settings = pair.settings
    # Only the shadow is reached through its proxy, which runs in this process. (Kafka can be
    # reached in no other way, with a shadow and without.)
    near = pair.primary == "redis"
    return {
        "TRANSPORT": pair.primary,
        "REDIS_HOST": redis.host if near else settings.redis_host,
        "REDIS_PORT": str(redis.port if near else settings.redis_port),
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "KAFKA_TOPIC": settings.kafka_topic,
        "KAFKA_DLQ_TOPIC": settings.kafka_dlq_topic,
        "STREAM_PARTITIONS": "4",
        "DATABASE_URL": database_url,
        "ENABLE_STREAM_CONSUMERS": "false",
    }


def _shadow(pair: Pair) -> dict[str, str]:
    return {
        "TRANSPORT_SHADOW": pair.shadow,
        # A mirror that holds a few hundred copies is full within the test.
        "TRANSPORT_SHADOW_QUEUE_RECORDS": "100",
        "TRANSPORT_SHADOW_TIMEOUT_MS": "1000",
    }


async def _post(app: Running, seconds: float, run: str) -> Result:
    return await load(
        Job(
            host="127.0.0.1",
            port=app.port,
            mode="open",
            rate=_RATE,
            seconds=seconds,
            run=run,
            keep_times=True,
        )
    )


@pytest.mark.quiet
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)
async def test_a_bad_shadow_fails_and_slows_no_post(
    pair: Pair, redis_server: Server, database_url: str, tmp_path: Path
) -> None:
    environment = _environment(pair, redis_server, database_url)
    async with (
        crossfade("serve", tmp_path, environment) as alone,
        crossfade("serve", tmp_path, environment | _shadow(pair)) as beside,
    ):
        posted = 0
        for name, fault in FAULTS.items():
            for app in (alone, beside):
                await _post(app, _SECONDS, f"{name}-warm-{app.port}")
            await eventually(partial(_empty, beside), timeout=30)
            fault(pair.shadow_proxy)
            p99: dict[int, list[float]] = {alone.port: [], beside.port: []}
            turn = 0
            while turn < _FEWEST or (turn < _MOST and not _is_kept(*p99.values())):
                for app in (alone, beside):
                    result = await _post(app, _SECONDS, f"{name}-{app.port}-{turn}")
                    assert result.errors == 0, result.statuses
                    assert result.messages == int(_RATE * _SECONDS)
                    p99[app.port].append(result.p99)
                turn += 1
            posted += int(_RATE * _SECONDS) * (turn + 1)
            await _all_is_told(beside, posted)
            pair.shadow_proxy.heal()
            pair.shadow_proxy.reset()
            without, with_it = (min(p99[app.port]) for app in (alone, beside))
            figures = (
                f"{name}: {_RATE:.0f} POST/s, p99 {without * 1000:.1f} ms alone, "
                f"{with_it * 1000:.1f} ms beside ({with_it / without:.2f})"
            )
            _log.warning(figures)
            assert _is_kept(*p99.values()), figures


def _is_kept(without: Sequence[float], with_it: Sequence[float]) -> bool:
    return min(with_it) <= min(without) * 1.1 + _SLACK


async def _all_is_told(app: Running, posted: int) -> None:
    """Nothing is out of sight: what was posted was copied, waits, or is counted as missed."""
    page = await fetch(app.metrics_port)
    told = {
        word: page.labelled("shadow_publish_total", word)
        for word in ("appended", "remembered", "dropped_")
    }
    assert sum(told.values()) + page.total("shadow_queue_depth") >= posted
    assert told["appended"] > 0
    assert told["dropped_"] > 0, "the shadow was not hurt"


async def _empty(app: Running) -> bool:
    """Tell whether the shadow works and has everything that waited."""
    page = await fetch(app.metrics_port)
    return (
        page.labelled("shadow_publish_total", "appended") > 0
        and page.total("shadow_queue_depth") == 0
        and page.labelled("shadow_breaker_state", "closed") == 1
    )


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bad_shadow_leaves_the_p99_within_ten_percent(
    pair: Pair, redis_server: Server, database_url: str, tmp_path: Path, fault: str
) -> None:
    plain = _environment(pair, redis_server, database_url)
    async with (
        crossfade("serve", tmp_path, plain) as alone,
        crossfade("serve", tmp_path, plain) as control,
        crossfade("serve", tmp_path, plain | _shadow(pair)) as beside,
    ):
        apps = [alone, control, beside]
        for app in apps:
            await _post(app, _STRICT_SECONDS, f"warm-{app.port}")
        await eventually(partial(_empty, beside), timeout=30)
        FAULTS[fault](pair.shadow_proxy)
        with_it: list[float] = []
        without: list[float] = []
        while not (shown := _is_shown(with_it)) and len(with_it) < max(_LOOKS):
            turn, p99 = len(with_it), {}
            # Each is as often the first and the last of a turn as the others.
            for app in apps[turn % 3 :] + apps[: turn % 3]:
                result = await _post(app, _STRICT_SECONDS, f"{app.port}-{turn}")
                assert result.errors == 0, result.statuses
                p99[app.port] = _p99(result)
            with_it.append(p99[beside.port] / sqrt(p99[alone.port] * p99[control.port]))
            without.append(p99[control.port] / p99[alone.port])
        figures = (
            f"{pair.primary}, {fault} shadow, {_RATE:.0f} POST/s: in {_within(with_it)} of "
            f"{len(with_it)} turns the p99 is within 10 % of that without a shadow, in the median "
            f"{median(with_it):.2f} times it; two processes without one differ by "
            f"{median(without):.2f}; {p99[alone.port] * 1000:.1f} ms in the last"
        )
        _log.warning(figures)
        await _all_is_told(beside, int(_RATE * _STRICT_SECONDS) * (len(with_it) + 1))
        assert shown, figures


def _p99(result: Result) -> float:
    times = zip(result.due[_COLD:], result.answered[_COLD:], strict=True)
    return percentile(sorted(answered - due for due, answered in times), 0.99)


def _within(ratios: Sequence[float]) -> int:
    return sum(ratio <= 1.1 for ratio in ratios)


def _is_shown(ratios: Sequence[float]) -> bool:
    enough = _LOOKS.get(len(ratios))
    return enough is not None and _within(ratios) >= enough
