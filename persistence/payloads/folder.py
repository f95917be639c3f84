"""A folder as a store: objects are flushed to the disk, so a power cut does not take them.

The client renames files into place and flushes nothing, but a 202 promises durability.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["MARK", "PayloadFolder", "new_identity"]

MARK = ".crossfade-payloads"
"""The key of the mark, the object that identifies the store."""

_UNFINISHED = re.compile(r".+#\d+")
_OURS = re.compile(
    r"(?:uploading|doomed|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/.*)?", re.DOTALL
)
"""The folders of payloads, by their paths below the root. Another program may have its own beside
them, or the disk, such as ``lost+found``."""


def new_identity() -> str:
    """Return the identity of a new store."""
    return secrets.token_hex(16)


class PayloadFolder:
    """The folder behind a ``file://`` store. Its calls block."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def prepare(self, *, mark: bool = True) -> None:
        """Make the folder, and its mark if it is empty, so the store is ready for the first write.

        An empty folder may be a disk that is not mounted. Then the new mark differs from the one
        that PostgreSQL knows, and nothing is written.

        Args:
            mark: ``False`` leaves an empty folder without one.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if mark and not any(self.root.iterdir()):
            self.make_mark(new_identity())

    def mark(self) -> str | None:
        """Return the identity in the mark; ``None`` if there is no mark."""
        try:
            return (self.root / MARK).read_text() or None
        except (FileNotFoundError, NotADirectoryError):
            return None

    def make_mark(self, identity: str) -> None:
        """Write the mark, durably."""
        self.root.mkdir(parents=True, exist_ok=True)
        mark = self.root / MARK
        aside = mark.with_name(f"{MARK}.{identity}")
        aside.write_text(identity)
        _flush(aside)
        aside.replace(mark)
        _flush(self.root)
        _flush(self.root.parent)

    def remove_unfinished(self, before: float) -> int:
        """Remove the client's hidden files: those of writes that never ended, and empty folders.

        Only in folders of payloads: a file of another program may have such a name.

        Args:
            before: seconds since the epoch; files that were changed later stay.

        Returns:
            How many files were removed.
        """
        removed = 0
        for path, folders, files in os.walk(self.root, topdown=False):
            folder = Path(path)
            hidden = files if self._is_ours(folder) else ()
            for file in (folder / name for name in hidden if _UNFINISHED.fullmatch(name)):
                with suppress(FileNotFoundError):
                    if file.stat().st_mtime < before:
                        file.unlink()
                        removed += 1
            for empty in filter(self._is_ours, (folder / name for name in folders)):
                with suppress(OSError):  # it has files, or is gone
                    if empty.stat().st_mtime < before:
                        empty.rmdir()
        return removed

    def _is_ours(self, folder: Path) -> bool:
        return _OURS.fullmatch(folder.relative_to(self.root).as_posix()) is not None

    def flush(self, key: str) -> str | None:
        """Flush an object and the folders above it; return the mark that is there afterwards."""
        path = self.root / key
        _flush(path)
        for folder in self._between(path):
            _flush(folder)
        return self.mark()

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
