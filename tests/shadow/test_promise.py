"""Promise 8, on a real ingress process: the shadow never hurts the primary.

The same load goes in turns to a process without a shadow and to one whose shadow is refusing,
hanging, cut off or slow. This runs where anything else may run: what disturbs a turn only adds to
its p99, so it compares each side's quietest turn, and allows some milliseconds more. To 10 % it is
held in ``tests.shadow.test_promise_strictly``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from compose.local.valkey import ValkeyServer
from lab.bench.load.job import Job
from lab.bench.processes import crossfade, load
from tests.shadow.log_pair import LogPair
from tests.shadow.proxy_faults import FAULTS
from tests.shadow.shadowed_ingress import (
    all_is_told,
    environment,
    has_no_backlog,
    shadow_environment,
)
from tests.support.eventually import eventually
from tests.support.services import RedisAddress

_log = logging.getLogger(__name__)

_RATE = 1000.0
_FEWEST, _MOST, _SECONDS = 2, 10, 0.6
"""Turns: after the first, a side that was disturbed gets others. A shadow that is felt is felt in
every turn."""
_SLACK = 0.01
"""Seconds by which the p99 may be more than 10 % longer."""


@pytest.mark.quiet
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", ["redis-to-kafka"], indirect=True)
async def test_a_bad_shadow_fails_and_slows_no_post(
    pair: LogPair,
    redis_server: ValkeyServer | RedisAddress,
    database_url: str,
    tmp_path: Path,
) -> None:
    plain = environment(pair, redis_server, database_url)
    async with (
        crossfade("serve", tmp_path, plain) as alone,
        crossfade("serve", tmp_path, plain | shadow_environment(pair)) as beside,
    ):
        posted = 0
        for name, fault in FAULTS.items():
            for app in (alone, beside):
                await load(_job(app.port, f"{name}-warm"))
            await eventually(partial(has_no_backlog, beside))
            fault(pair.shadow_proxy)
            p99: dict[int, list[float]] = {alone.port: [], beside.port: []}
            turn = 0
            while turn < _FEWEST or (turn < _MOST and not _is_kept(*p99.values())):
                for app in (alone, beside):
                    result = await load(_job(app.port, f"{name}-{turn}"))
                    assert result.errors == 0, result.statuses
                    assert result.messages == int(_RATE * _SECONDS)
                    p99[app.port].append(result.p99)
                turn += 1
            posted += int(_RATE * _SECONDS) * (turn + 1)
            await all_is_told(beside, posted)
            pair.shadow_proxy.heal()
            pair.shadow_proxy.reset()
            without, with_it = (min(p99[app.port]) for app in (alone, beside))
            figures = (
                f"{name}: {_RATE:.0f} POST/s, p99 {without * 1000:.1f} ms alone, "
                f"{with_it * 1000:.1f} ms beside ({with_it / without:.2f})"
            )
            _log.warning(figures)
            assert _is_kept(*p99.values()), figures


def _job(port: int, run: str) -> Job:
    return Job(
        host="127.0.0.1",
        port=port,
        mode="open",
        rate=_RATE,
        seconds=_SECONDS,
        run=f"{run}-{port}",
    )


def _is_kept(without: Sequence[float], with_it: Sequence[float]) -> bool:
    return min(with_it) <= min(without) * 1.1 + _SLACK
