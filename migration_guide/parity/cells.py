"""Cells: how two logs of different partition counts are compared piece by piece.

A cell is one partition of the primary beside one of the shadow that can hold the same messages. A
partition's number is the conversation's hash modulo its log's partition count. So the two numbers
agree modulo the greatest common divisor of the counts, and there are as many cells as their least
common multiple. Every record is in one cell, and both records of a message are in the same one. If
the counts are equal, each cell has a partition of its own in each log.

Cells that share a partition form a group. A group is read together: each of its partitions once.
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple

__all__ = ["Cell", "CellGroup", "cells", "groups"]


class Cell(NamedTuple):
    """A partition of the primary, and one of the shadow."""

    primary: int
    shadow: int


class CellGroup(NamedTuple):
    """Partitions of the two logs: each of the primary forms a cell with each of the shadow."""

    primary: range
    shadow: range

    def cells(self) -> list[Cell]:
        """Return its cells."""
        return [Cell(p, q) for p in self.primary for q in self.shadow]


def groups(primary: int, shadow: int) -> list[CellGroup]:
    """Return every group of two logs, given how many partitions each has."""
    shared = gcd(primary, shadow)
    return [CellGroup(range(r, primary, shared), range(r, shadow, shared)) for r in range(shared)]


def cells(primary: int, shadow: int) -> list[Cell]:
    """Return every cell of two logs, given how many partitions each has."""
    return sorted(cell for group in groups(primary, shadow) for cell in group.cells())
