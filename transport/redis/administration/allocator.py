"""The allocator of a server, which need not be the one that it was built with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["allocator", "replacement"]

_OTHERS = ("jemalloc", "mimalloc", "tcmalloc")


def allocator(info: Mapping[str, str]) -> str | None:
    """Return the allocator that a server runs with, by its ``INFO``; ``None`` if it does not say.

    INFO has what the server was built with, and nothing of LD_PRELOAD.
    """
    built = info.get("mem_allocator")
    if built == "libc" and (name := replacement(info.get("process_id", ""))):
        return f"{name} in place of libc"
    return built


def replacement(process_id: str) -> str | None:
    """Return the allocator that a process has loaded, as far as can be seen from here.

    A process of another machine, user or container can't be looked into.
    """
    try:
        # The number may be another process's here, where the server is not on this machine.
        if "-server" not in Path(f"/proc/{process_id}/comm").read_text():
            return None
        maps = Path(f"/proc/{process_id}/maps").read_text()
    except OSError:
        return None
    return next((name for name in _OTHERS if f"lib{name}" in maps), None)
