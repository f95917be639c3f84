"""The order in which loads are measured: alternating, round by round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["there_and_back"]

_Load = TypeVar("_Load")


def there_and_back(loads: Iterable[_Load], rounds: int) -> Iterator[_Load]:
    """Yield all loads for each round; every second round in reverse order.

    The speed of a machine drifts over minutes. With an even number of rounds each load has the same
    average position, so that a steady drift cancels out.
    """
    order = list(loads)
    for _ in range(rounds):
        yield from order
        order.reverse()
