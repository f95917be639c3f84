"""The C library's heap: large buffers go back to the system as soon as they are free."""

from __future__ import annotations

import ctypes

__all__ = ["return_large_buffers"]

# Parameters of mallopt(3), with their numbers from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 64 * 1024
_TRIMMED = 8 * 1024 * 1024
_ARENAS = 2


def return_large_buffers() -> None:
    """Make malloc map each buffer of 64 KiB or more separately; do nothing without glibc.

    By default, glibc raises that limit to the size of each mapped buffer that is freed, up to 32
    MiB. After that the bodies of a burst lie in the heap between smaller objects, and glibc can't
    return their space: a burst can leave the process larger for good.

    glibc also makes up to eight heaps per core, which the threads of a payload store's client
    fill; here it makes two at most. Up to 8 MiB at the top of the heap stay with the process:
    with a lower limit, the process would return the same memory again and again (mallopt(3)).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl and macOS have none
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _TRIMMED)
    mallopt(_M_ARENA_MAX, _ARENAS)
