"""Gives the processes that a request passes through priority over everything else.

A machine has other work during a comparison: the kernel's threads, a database's housekeeping, a
JVM's compilers. Each takes a processor for one to four milliseconds, several times per second.
That delays about one per cent of the requests, which is what a p99 shows. This work is random, so
it hides differences of a few per cent, however long a measurement lasts.
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
"""The threads of a JVM that serve requests, or that all others wait for. Its compilers get no
priority: they would delay answers."""


@contextlib.contextmanager
def ahead() -> Iterator[str]:
    """Give this process and its children real-time priority (``SCHED_FIFO``; see sched(7)).

    The priority lasts until the block ends. Processes that this process starts meanwhile get it
    too; those that its children start do not. Without the privilege for it, nothing changes.

    Yields:
        A description of the priority.
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
        return ""  # the thread has ended; a JVM's threads do so all the time
