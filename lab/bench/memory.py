"""Samples a process's resident size, and computes its growth."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Self

import psutil

__all__ = ["Sampler", "growth"]

_EVERY = 0.1
_MB = 1024 * 1024
Sample = tuple[float, float]


class Sampler:
    """Samples a process's resident size until the block ends, as ``(seconds, MB)``."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._process = psutil.Process(pid)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        started = time.perf_counter()
        while True:
            size = self._process.memory_info().rss / _MB
            self.samples.append((time.perf_counter() - started, size))
            await asyncio.sleep(_EVERY)

    def summary(self) -> str:
        """Return the resident size at start, middle and end, and the slope of the second half."""
        sizes = [size for _, size in self.samples]
        half = self.samples[len(self.samples) // 2 :]
        slope = statistics.linear_regression(*zip(*half, strict=True)).slope if len(half) > 2 else 0
        return f"{sizes[0]:.1f} {sizes[len(sizes) // 2]:.1f} {sizes[-1]:.1f}, {slope:+.3f} MB/s"


def growth(samples: list[Sample]) -> float:
    """Return the growth in the second half, in MB: its last tenth minus its first tenth.

    The first half is left out: it fills pools and caches of limited size.
    """
    half = [size for _, size in samples[len(samples) // 2 :]]
    tenth = max(1, len(half) // 10)
    return statistics.fmean(half[-tenth:]) - statistics.fmean(half[:tenth])
