"""The log of ``crossfade up``: a file of limited size; warnings and errors also in the terminal.

Each message causes some log lines. In the terminal they would push the addresses out of sight, so
it shows warnings and errors only, one line each, unless ``--verbose`` asks for all lines.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from structlog.types import EventDict

from compose.terminal import Terminal, brief, styled

__all__ = ["NAME", "Notices", "RotatingFile"]

NAME = "crossfade.log"
_LARGEST = 16 * 1024 * 1024  # bytes of one file
_KEPT = 3  # older files
_AGAIN = 10.0  # seconds until the same event is shown again
_REMEMBERED = 200  # events
_LONGEST = 300  # characters of one value
_COLOURS = {"warning": "yellow", "error": "red", "critical": "bold red"}
_SAID = frozenset({"timestamp", "level", "event", "exception", "logger"})


class RotatingFile(io.TextIOBase):
    """A text file that is renamed at its largest size (``.1`` is the newest of the older files).

    A line that can't be written (for example if the disk is full) is dropped; the service goes on.

    Args:
        path: The file.
        failed: Called with an error at the first failure, and at the first one after a success.
        largest: Largest size of the file, in bytes.
        kept: Number of older files to keep.
    """

    def __init__(
        self,
        path: Path,
        *,
        failed: Callable[[str], None],
        largest: int = _LARGEST,
        kept: int = _KEPT,
    ) -> None:
        super().__init__()
        self.path = path
        self._failed = failed
        self._largest = largest
        self._kept = kept
        self._lock = threading.Lock()
        self._failing = False
        self._descriptor = -1
        self._size = 0

    def write(self, text: str) -> int:
        """Append whole lines."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            try:
                if self._descriptor < 0:
                    self._open()
                if self._size >= self._largest:
                    self._rotate()
                os.write(self._descriptor, data)
            except OSError as error:
                if not self._failing:
                    self._failing = True
                    self._failed(f"{self.path} can't be written ({error.strerror}): not logged")
            else:
                self._size += len(data)
                self._failing = False
        return len(text)

    def flush(self) -> None:
        """Do nothing: ``write`` does not buffer."""

    def close(self) -> None:
        """Close the file. A later log line opens it again."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _open(self) -> None:
        # Only the owner may read the file: it has ids of clients.
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
        for number in range(self._kept, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else None
            if (newer or self.path).exists():
                (newer or self.path).replace(older)
        self._open()


class Notices:
    """Shows warnings and errors in a terminal, one line each; the same event every 10 s at most."""

    def __init__(
        self, terminal: Terminal, file: Path, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._terminal = terminal
        self._file = file
        self._shown: dict[str, float] = {}
        self._passed_over: dict[str, int] = {}

    def __call__(self, event: EventDict) -> None:
        """Show the event if it is a warning or an error."""
        level = event.get("level", "")
        if level not in _COLOURS:
            return
        what, now = str(event["event"]), self._clock()
        if now - self._shown.get(what, -_AGAIN) < _AGAIN:
            self._passed_over[what] = self._passed_over.get(what, 0) + 1
            return
        if len(self._shown) >= _REMEMBERED:
            self._shown.clear()
            self._passed_over.clear()
        self._shown[what] = now
        details = [f"{k}={brief(str(v), _LONGEST)}" for k, v in event.items() if self._is_said(k)]
        if "exception" in event:
            details.append(brief(event["exception"].rpartition("\n")[2], _LONGEST))
        if more := self._passed_over.pop(what, 0):
            details.append(f"and {'once' if more == 1 else f'{more} times'} before")
        parts: list[str | tuple[str, str]] = [(f"{level}:", _COLOURS[level]), f" {what}"]
        if details:
            parts.append((f"  ({', '.join(details)})", "dim"))
        if "exception" in event:
            parts.append(f"; its traceback is in {self._file}")
        self._terminal.print(styled((time.strftime("%H:%M:%S "), "dim"), *parts))

    @staticmethod
    def _is_said(name: str) -> bool:
        return not name.startswith("_") and name not in _SAID
