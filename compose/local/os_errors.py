"""Explains errors of the system (another user's folder, a full disk), each with a remedy."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

__all__ = ["explained", "explained_by"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


def explained(error: OSError) -> str | None:
    """Return the error, its file and the remedy as text; ``None`` if the error names no file."""
    if error.errno in _FULL:
        where = f" for {error.filename}" if error.filename else ""
        return f"no space is left on the disk{where}: free some, and run the command again"
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    if error.errno == errno.EROFS:
        return (
            f"{path} can't be written: its file system is mounted read-only; work in a folder that "
            "can be written"
        )
    if error.errno in _FORBIDDEN:
        return _forbidden(path)
    return f"{path}: {error.strerror}"


def explained_by(said: str, path: Path) -> str | None:
    """Explain the error in another program's output; return ``None`` if it has none of these.

    Args:
        said: The output.
        path: The folder that the program uses.
    """
    for number in (*_FULL, errno.EROFS):
        if os.strerror(number) in said:
            return explained(OSError(number, "", str(path)))
    if os.strerror(errno.EACCES) in said and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return explained(OSError(errno.EACCES, "", str(path)))
    return None


def _forbidden(path: Path) -> str:
    """Name the nearest existing folder or file of ``path``, and its owner."""
    at, uid = next((at, uid) for at in (path, *path.parents) if (uid := _owner(at)) is not None)
    if uid == os.geteuid():
        return f"{path} can't be used: the permissions of {at} forbid it (chmod u+rwX {at})"
    name = _name(uid)
    used = "" if at == path else f"{path} can't be used: "
    return (
        f"{used}{at} belongs to another user ({name}); run the command as {name}, or in a folder "
        "of your own"
    )


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:  # it does not exist yet, or lies in a folder that can't be looked into
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
