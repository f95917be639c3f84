"""The faults that each part may have: some processes are never ended, so that leaks can show."""

from __future__ import annotations

from collections.abc import Sequence

from lab.rehearsal.part import Part

__all__ = ["spared", "victims", "ways"]

_SPARED = ("ingress-1", "worker-1")
_ENDING = ("kill", "restart")


def spared(parts: Sequence[Part]) -> list[str]:
    """Return the names of the parts that faults may suspend, but never end."""
    return [part.name for part in parts if part.name in _SPARED]


def victims(parts: Sequence[Part], kind: str, way: str) -> list[Part]:
    """Return the parts of a kind that a way of fault may hit; empty if all of them are spared."""
    return [
        part
        for part in parts
        if part.kind == kind and (way not in _ENDING or part.name not in _SPARED)
    ]


def ways(parts: Sequence[Part], kind: str) -> tuple[str, ...]:
    """Return the ways of fault that may hit at least one part of a kind."""
    known = next(part.ways for part in parts if part.kind == kind)
    return tuple(way for way in known if victims(parts, kind, way))
