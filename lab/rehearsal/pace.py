"""The default rate of a rehearsal: half of the rate that this machine sustains in every phase."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from lab.harness.history import ClientHistory
from lab.harness.load import LoadOptions, Mix, Target
from lab.harness.load_process import LoadProcess

__all__ = ["chosen_rate", "writers_for"]

_HALF = 0.5
# With a sync shadow, a machine sustains at least this share of its rate with one log: 4,124 of
# 11,650 messages per second were measured, and 5,845 of 12,522 (docs/figures.md, the sync shadow).
_BOTH_LOGS = 0.35
_WRITERS = 48
_PAUSE = 0.0005  # seconds; so short that each writer sends as soon as it has its answer
_WARM_SECONDS = 1.0
_SECONDS = 3.0
_LEAST = 10.0
_ANSWER_SECONDS = 0.15  # assumed time of an answer; a rolling restart delays some


async def chosen_rate(
    history: ClientHistory, targets: Sequence[Target], run: str, mix: Mix, *, proxy: str | None
) -> float:
    """Measure for some seconds how many messages are answered; return a rate from that.

    The rate is in messages per second, rounded to two digits. The service must be in a phase with
    one log. The requests are recorded in ``history``.
    """
    options = LoadOptions(
        run=f"{run}-try",
        conversations=_WRITERS,
        crowded=0,
        pause=_PAUSE,
        catch_up=True,
        patience=1.0,
        proxy=proxy,
        mix=mix,
    )
    async with LoadProcess(history, targets, options) as load:
        await load.goes_on(_WRITERS, within=180.0)  # its process has started
        await asyncio.sleep(_WARM_SECONDS)
        began, before = time.monotonic(), load.acknowledged
        await asyncio.sleep(_SECONDS)
        answered = (load.acknowledged - before) / (time.monotonic() - began)
    return max(_LEAST, _two_digits(_HALF * _BOTH_LOGS * answered))


def writers_for(rate: float) -> int:
    """Return the number of conversations that keeps ``rate`` even with slow answers."""
    return max(60, math.ceil(rate * _ANSWER_SECONDS))


def _two_digits(number: float) -> float:
    return float(f"{number:.2g}")
