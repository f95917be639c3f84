"""Measures the CPU time of process trees."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

__all__ = ["cpu_seconds"]


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the user and system time of each process tree so far, by name, in seconds.

    Children that ended count once their parent has waited for them, as PostgreSQL does.
    """
    return {name: _of_tree(psutil.Process(pid)) for name, pid in pids.items()}


def _of_tree(root: psutil.Process) -> float:
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total
