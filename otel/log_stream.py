"""The stream that log lines are written to. Its reader can't stop the process."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import TextIO

__all__ = ["LogStream"]

_PIPE_BYTES = 1 << 20  # the most that Linux lets any user have; 64 KiB by default
_PATIENCE = 0.2
_PERIOD = 60.0
"""Seconds that a reader is waited for in all, in each period of so many seconds."""
_UNWRITABLE = (OSError, ValueError)  # ValueError: the stream is closed
_AT_ONCE = select.PIPE_BUF  # a pipe or socket with room takes so many bytes without a wait


class LogStream:
    """Writes lines to ``stream`` and leaves those out that can't be written.

    The disk is full, nobody is at the other end of the pipe, or its reader stands still. A reader
    is waited for, a fifth of a second a minute in all. Then lines are left out at once, and when it
    reads on, ``notice`` makes the line that says how many they were.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], str]) -> None:
        self._stream = stream
        self._notice = notice
        self.isatty = stream.isatty
        self._descriptor = _read_by_another(stream)
        self._room = select.poll()
        if self._descriptor is not None:
            self._room.register(self._descriptor, select.POLLOUT)
            _widen(self._descriptor)
        self._lock = RLock()
        self._period_began = float("-inf")
        self._patience = _PATIENCE
        self._left_out = 0
        self._cut = False
        """Whether the last line has no end."""

    def write(self, text: str) -> None:
        """Write lines, or leave them out. Raises nothing."""
        with suppress(*_UNWRITABLE):
            if self._descriptor is None:
                self._stream.write(text)
                return
            with self._lock:
                self._send(self._descriptor, text)

    def flush(self) -> None:
        """Write buffered text. Raises nothing."""
        with suppress(*_UNWRITABLE):
            self._stream.flush()

    def _send(self, descriptor: int, text: str) -> None:
        if not self._has_room():
            self._left_out += 1
            return
        if self._left_out:
            text = self._notice(self._left_out) + text
            self._left_out = 0
        data = memoryview(("\n" * self._cut + text).encode("utf-8", "backslashreplace"))
        self._cut = False
        while data:
            if not self._has_room():
                self._cut = True
                self._left_out += 1
                return
            data = data[os.write(descriptor, data[:_AT_ONCE]) :]

    def _has_room(self) -> bool:
        if self._room.poll(0):
            return True
        began = time.monotonic()
        if began - self._period_began >= _PERIOD:
            self._period_began, self._patience = began, _PATIENCE
        if self._patience <= 0:
            return False
        room = bool(self._room.poll(self._patience * 1000))
        self._patience -= time.monotonic() - began
        return room


def _read_by_another(stream: TextIO) -> int | None:
    """Return the descriptor of ``stream`` if it is a pipe or a socket, else ``None``."""
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError, AttributeError):
        return None  # not the system's, as in tests
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


def _widen(descriptor: int) -> None:
    """Let a pipe hold more, so that a reader may be late; a socket stays as it is."""
    with suppress(OSError):
        if (set_size := getattr(fcntl, "F_SETPIPE_SZ", None)) is not None:
            fcntl.fcntl(descriptor, set_size, _PIPE_BYTES)
