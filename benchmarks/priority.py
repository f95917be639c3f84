"""Let the processes that a request passes through run before everything else.

A machine has work of its own beside the comparison: the kernel's threads, a database's
housekeeping, a JVM's compilers. Each takes a processor for a millisecond or four, some times a
second, which is just the share of the requests that a p99 is made of. It comes by chance, so it
hides a difference of a few hundredths, and does so for as long as one cares to measure.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

__all__ = ["ahead"]

_PRIORITY = 10
_JAVA = ("data-plane", "GC Thread", "G1 ", "VM Thread")
"""The threads of a JVM that answer, or that all others wait for. Its compilers stay behind: they
would delay the answers."""


@contextlib.contextmanager
def ahead() -> Iterator[str]:
    """Let this process and those it has started run first (``SCHED_FIFO``; see sched(7)).

    For the time of the block, which gets a description. What this process starts within it runs
    first too; what the others start does not. Where that is not allowed (it takes a privilege),
    all stays as it is, and the description says so.
    """
    if sys.platform != "linux":
        yield "as urgent as all else (this system has no such priority)"
        return
    here = psutil.Process()
    others = here.children(recursive=True)
    first, usual = os.sched_param(_PRIORITY), os.sched_param(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, first)
    except PermissionError:
        yield "as urgent as all else (to change that takes a privilege)"
        return
    try:
        for thread in _threads(others):
            _schedule(thread, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, first)
        yield "before all else of the machine"
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, usual)
        for thread in _threads(others):
            _schedule(thread, os.SCHED_OTHER, usual)


def _schedule(thread: int, policy: int, parameter: os.sched_param) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setscheduler(thread, policy, parameter)


def _threads(processes: list[psutil.Process]) -> Iterator[int]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            java = process.name() == "java"
            for thread in process.threads():
                if not java or _name(process.pid, thread.id).startswith(_JAVA):
                    yield thread.id


def _name(process: int, thread: int) -> str:
    try:
        return Path(f"/proc/{process}/task/{thread}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended, as a JVM's do all the time; the others are still to come
