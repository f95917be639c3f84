"""Cells: how two logs of different partition counts are compared piece by piece.

A cell is one partition of the primary beside one of the shadow that can hold the same messages.
Both are the conversation's hash modulo their log's count, so they agree modulo the greatest common
divisor of the two: there are as many cells as the least common multiple. Every record is in one
cell, and both records of a message in the same one. Of equal counts, a cell is a partition.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

__all__ = ["Cell", "cells"]


class Cell(NamedTuple):
    """A partition of the primary, and one of the shadow."""

    primary: int
    shadow: int


def cells(primary: int, shadow: int) -> list[Cell]:
    """Return every cell of two logs, given how many partitions each has."""
    shared = gcd(primary, shadow)
    return [Cell(p, q) for p in range(primary) for q in range(p % shared, shadow, shared)]
