"""The C library's heap: large buffers go back to the system as soon as they are free."""

from __future__ import annotations

import ctypes

__all__ = ["return_large_buffers"]

# Of glibc's malloc.h. The values of mallopt(3) that nothing but this file asks for.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 64 * 1024
_TRIMMED = 8 * 1024 * 1024
_ARENAS = 2


def return_large_buffers() -> None:
    """Have buffers from 64 KiB on be mapped each for itself; do nothing without glibc.

    glibc raises that limit to the size of each buffer that is freed, up to 32 MiB. From then on the
    bodies of a burst lie in the heap between smaller objects, and the space that they leave can't
    be returned: a larger burst can leave the process larger for good. glibc also has up to eight
    heaps a core, which the threads of a payload store's client fill. Up to 8 MiB at the heap's top
    are kept, since a process that returns less returns it again and again (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and macOS have none
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _TRIMMED)
    mallopt(_M_ARENA_MAX, _ARENAS)
