"""The seconds between one request and the next, as endless iterators."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Literal

__all__ = ["Arrivals", "gaps"]

Arrivals = Literal["even", "poisson"]
"""Evenly spaced, or as a Poisson process: independent clients, with the same mean rate."""


def gaps(rate: float, arrivals: Arrivals = "even", seed: int | str = 0) -> Iterator[float]:
    """Yield the seconds between arrivals at ``rate`` arrivals per second."""
    if arrivals == "even":
        yield from itertools.repeat(1 / rate)
    dice = random.Random(seed)  # noqa: S311 - dice for a load
    while True:
        yield dice.expovariate(rate)
