"""Figures of processes (from ``/proc``, so on Linux only) and sizes of folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["ProcessFigures", "figures_of", "folder_bytes"]

_KB = 1024


class ProcessFigures(NamedTuple):
    """The figures of one process, or the sums of a server's processes. ``memory`` is in bytes."""

    memory: int
    descriptors: int
    threads: int


def figures_of(pid: int, *, children: bool = False) -> ProcessFigures | None:
    """Return the figures of a process; ``None`` if it has ended, or the system has no ``/proc``.

    Args:
        pid: The process id.
        children: Include its children. Memory is then the private memory of each process:
            PostgreSQL's shared buffers would be counted for every session.
    """
    if not children:
        return _figures(pid, "VmRSS")
    found = [figures for process in _tree(pid) if (figures := _figures(process, "RssAnon"))]
    if not found:
        return None
    return ProcessFigures(*(sum(values) for values in zip(*found, strict=True)))


def folder_bytes(folder: Path) -> int:
    """Return the disk space of all files in a folder, in bytes."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).lstat().st_blocks * 512
            except OSError:  # removed meanwhile
                continue
    return total


def _figures(pid: int, memory: str) -> ProcessFigures | None:
    at = Path("/proc") / str(pid)
    try:
        lines = dict(
            line.split(":", 1) for line in (at / "status").read_text().splitlines() if ":" in line
        )
        return ProcessFigures(
            int(lines[memory].split()[0]) * _KB,
            sum(1 for _ in (at / "fd").iterdir()),
            int(lines["Threads"]),
        )
    except (OSError, KeyError, ValueError):  # it has ended; a zombie has no memory figures
        return None


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = (Path("/proc") / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))
