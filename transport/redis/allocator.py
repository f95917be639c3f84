"""Whether a server on this machine runs with another allocator than it was built with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["allocator", "is_replaced"]

_OTHERS = ("libjemalloc", "libmimalloc", "libtcmalloc")


def allocator(info: Mapping[str, str]) -> str | None:
    """Return the allocator that a server runs with, by its ``INFO``; ``None`` if it does not say.

    One that was loaded in place of the C library's is said to be another, without its name.
    """
    built = info.get("mem_allocator")
    if built == "libc" and is_replaced(info.get("process_id", "")):
        return "another allocator than libc"
    return built


def is_replaced(process_id: str) -> bool:
    """Return whether the process has loaded an allocator, as far as can be seen from here.

    INFO says what Redis was built with, and nothing of LD_PRELOAD. A process of another machine,
    user or container can't be looked into.
    """
    try:
        # The number may be another process's here, where the server is not on this machine.
        if "-server" not in Path(f"/proc/{process_id}/comm").read_text():
            return False
        maps = Path(f"/proc/{process_id}/maps").read_text()
    except OSError:
        return False
    return any(name in maps for name in _OTHERS)
