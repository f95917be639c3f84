"""Seconds between one request and the next, as iterators without an end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Literal

__all__ = ["Arrivals", "gaps"]

Arrivals = Literal["even", "poisson"]
"""Evenly spaced, or as independent clients come: with the same mean, and in crowds at times."""


def gaps(rate: float, arrivals: Arrivals = "even", seed: int | str = 0) -> Iterator[float]:
    """Return the seconds between arrivals, ``rate`` of them a second."""
    if arrivals == "even":
        yield from itertools.repeat(1 / rate)
    dice = random.Random(seed)  # noqa: S311 - dice for a load
    while True:
        yield dice.expovariate(rate)
