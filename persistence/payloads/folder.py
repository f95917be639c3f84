"""A folder as a store: what a power cut must not take is flushed to the disk.

The client renames files into place and flushes nothing, and a 202 promises more than that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from persistence.payloads.errors import PayloadOutage

__all__ = ["PayloadFolder"]

_MARK = ".crossfade-payloads"


class PayloadFolder:
    """The folder behind a ``file://`` store. Its calls block."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self) -> None:
        """Make the folder, marked as a store: an empty one may be a disk that is not mounted."""
        mark = self.root / _MARK
        if not mark.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            mark.touch()
            _flush(mark)
            _flush(self.root)
            _flush(self.root.parent)

    def check(self) -> None:
        """Return if the folder is there.

        Raises:
            PayloadOutage: it is not, so nothing can be said of an object.
        """
        if not (self.root / _MARK).exists():
            raise PayloadOutage(
                f"{self.root} is not the folder of PAYLOAD_STORE (it has no {_MARK}): is its disk "
                "mounted?"
            )

    def flush(self, key: str) -> None:
        """Flush an object, and the folders that lead to it."""
        path = self.root / key
        _flush(path)
        for folder in self._between(path):
            _flush(folder)

    def _between(self, path: Path) -> Iterator[Path]:
        """Yield the object's folder, and those above it up to the root."""
        for folder in path.parents:
            yield folder
            if folder == self.root:
                return


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
