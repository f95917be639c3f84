"""Cells: how two logs of different partition counts are compared piece by piece.

A cell is one partition of the primary beside one of the shadow that can hold the same messages.
Both are the conversation's hash modulo their log's count, so they agree modulo the greatest common
divisor of the two: there are as many cells as the least common multiple. Every record is in one
cell, and both records of a message in the same one. Of equal counts, a cell is a partition.

Cells that share a partition are a group, which is read together: each of its partitions once.
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
    """Partitions of the primary and of the shadow: each of them makes a cell with each other."""

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
