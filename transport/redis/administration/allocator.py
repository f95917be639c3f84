"""The memory allocator of a server: the one it was built with, or a preloaded one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["allocator", "replacement"]

_OTHERS = ("jemalloc", "mimalloc", "tcmalloc")


def allocator(info: Mapping[str, str]) -> str | None:
    """Return the allocator that a server runs with; ``None`` if its ``INFO`` does not say.

    ``INFO`` names the allocator that the server was built with, and ignores ``LD_PRELOAD``.
    """
    built = info.get("mem_allocator")
    if built == "libc" and (name := replacement(info.get("process_id", ""))):
        return f"{name} in place of libc"
    return built


def replacement(process_id: str) -> str | None:
    """Return the allocator library that a local process has loaded, if any.

    ``None`` also for a process of another machine, user or container, which can't be inspected.
    """
    try:
        # If the server is on another machine, this number may be that of some other local process.
        if "-server" not in Path(f"/proc/{process_id}/comm").read_text():
            return None
        maps = Path(f"/proc/{process_id}/maps").read_text()
    except OSError:
        return None
    return next((name for name in _OTHERS if f"lib{name}" in maps), None)
