"""Gives the measured service a processor of its own; everything else shares the others.

With few processors, the scheduler affects the result: it moves four processes between two
processors every few hundred milliseconds, and the same service answers 19,000 or 32,000 requests
per second, depending on the process that it shares a processor with. A generator or database on the
service's processor slows the service down. So each compared service gets the same processor for
itself, and all other processes get the rest.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator

import psutil

__all__ = ["apart"]


@contextlib.contextmanager
def apart(measured: Iterable[int], *, shared: bool = False) -> Iterator[str]:
    """Give process trees one processor, and this process and its other children the rest.

    The placement lasts until the block ends. If processes can't be placed, or the machine has one
    processor, nothing changes.

    Args:
        measured: The process ids of the trees.
        shared: Whether the other processes may use that processor too.

    Yields:
        A description of the placement.
    """
    if sys.platform != "linux":
        yield "as the scheduler has it (this system can't place processes)"
        return
    all_of_them = os.sched_getaffinity(0)
    if len(all_of_them) == 1:
        yield "all on one processor"
        return
    own = {min(all_of_them)}
    alone = {process.pid for pid in measured for process in _tree(psutil.Process(pid))}
    here = psutil.Process()
    others = [process for process in _tree(here) if process.pid not in alone]
    try:
        _place(others, all_of_them if shared else all_of_them - own)
        _place([psutil.Process(pid) for pid in alone], own)
        if shared:
            yield "the service on one processor, all else on any"
        else:
            yield f"the service on one processor, all else on the other {len(all_of_them) - 1}"
    finally:
        _place(_tree(here), all_of_them)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def _place(processes: Iterable[psutil.Process], processors: Collection[int]) -> None:
    """Place every thread; threads that start later inherit the placement."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for thread in process.threads():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, processors)
