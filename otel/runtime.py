"""Metrics of the process: memory, CPU, garbage collection, and the event loop's delay."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from importlib.metadata import version

from prometheus_client import Gauge, GCCollector, PlatformCollector, ProcessCollector

from otel.metrics import Metrics

__all__ = ["LoopDelay", "observe_process"]

_EVERY = 0.1
_WINDOW = 10.0


def observe_process(metrics: Metrics) -> None:
    """Add the process's own metrics and ``crossfade_build_info`` to the registry."""
    ProcessCollector(registry=metrics.registry)
    PlatformCollector(registry=metrics.registry)
    GCCollector(registry=metrics.registry)
    Gauge(
        "crossfade_build_info", "1, labelled with the version.", ("version",),
        registry=metrics.registry,
    ).labels(version("crossfade")).set(1)  # fmt: skip
    # Resident memory includes the room that a burst leaves behind. This figure does not.
    Gauge(
        "python_allocated_blocks",
        "Small objects, of up to 512 bytes, that Python has allocated.",
        registry=metrics.registry,
    ).set_function(sys.getallocatedblocks)


class LoopDelay:
    """``process_event_loop_delay_seconds``: how late the loop ran a timer, at worst in 10 s.

    It is the largest delay, not the last one, so that a scrape shows a stall that is already over.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._recent: deque[float] = deque(maxlen=round(_WINDOW / _EVERY))
        # Computed at a scrape, not ten times a second.
        Gauge(
            "process_event_loop_delay_seconds",
            "How late the event loop ran a timer: the worst of the last 10 seconds.",
            registry=metrics.registry,
        ).set_function(lambda: max(self._recent, default=0.0))
        self._due = 0.0
        self._timer: asyncio.TimerHandle

    async def run(self, stop: asyncio.Event) -> None:
        """Measure until ``stop`` is set."""
        self._wait()
        try:
            await stop.wait()
        finally:
            self._timer.cancel()

    def _wait(self) -> None:
        # A timer and not a task that sleeps: waking a task ten times a second would be a tenth of
        # what an idle process costs.
        self._due = time.perf_counter() + _EVERY
        self._timer = asyncio.get_running_loop().call_later(_EVERY, self._measure)

    def _measure(self) -> None:
        self._recent.append(max(0.0, time.perf_counter() - self._due))
        self._wait()
