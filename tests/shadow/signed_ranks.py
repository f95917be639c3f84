"""Wilcoxon's signed-rank test: whether values that scatter lie below a limit, or only seem to.

It asks for no distribution but one that is alike on both sides of its middle, so that one value far
out, of a machine that stood still, counts no more than its rank. scipy has it too, in 100 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

__all__ = ["surely_below"]


def surely_below(values: Sequence[float], limit: float) -> float:
    """Return by how many standard deviations the signed ranks say that they lie below ``limit``.

    By the normal distribution that the ranks' sum comes close to; so for ten values or more.
    """
    ordered = sorted((value - limit for value in values), key=abs)
    below = sum(rank for rank, value in enumerate(ordered, 1) if value < 0)
    n = len(ordered)
    return (below - n * (n + 1) / 4) / sqrt(n * (n + 1) * (2 * n + 1) / 24)
