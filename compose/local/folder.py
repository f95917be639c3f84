"""The data folder of ``crossfade up``, locked by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from compose.local.os_errors import explained
from compose.local.server import ServerError

__all__ = ["Folder"]


class Folder:
    """A project's ``.crossfade`` folder. The system frees its lock when our process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: IO[str] | None = None

    def hold(self) -> None:
        """Lock the folder; create it if it is missing.

        Raises:
            ServerError: another ``crossfade up`` holds the lock, or the folder can't be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise ServerError(
                explained(error) or f"{self.path} can't be written: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip() or "unknown"
            lock.close()
            raise ServerError(
                f"'crossfade up' runs in this folder already (pid {who}): use that one, or stop it "
                "with Ctrl-C where it runs"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock is not None

    def release(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
