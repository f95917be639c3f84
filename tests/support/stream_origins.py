"""Say in Python's warning about an unclosed stream which test opened the stream.

The garbage collector finds such a stream in any later test, and the warning makes that one fail.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import wraps
from types import FrameType
from typing import Any

__all__ = ["install"]

_FRAMES = 4


def install() -> None:
    """Patch asyncio's ``StreamWriter`` in this process."""
    opened, shown = asyncio.StreamWriter.__init__, asyncio.StreamWriter.__repr__

    @wraps(opened)
    def opens(writer: Any, *args: Any, **options: Any) -> None:
        writer.origin = (os.environ.get("PYTEST_CURRENT_TEST", "outside a test"), _places())
        opened(writer, *args, **options)

    @wraps(shown)
    def shows(writer: Any) -> str:
        test, places = writer.origin
        return f"{shown(writer)} opened in {test} at {', '.join(places)}"

    asyncio.StreamWriter.__init__ = opens  # type: ignore[method-assign]
    asyncio.StreamWriter.__repr__ = shows  # type: ignore[method-assign]


def _places() -> list[str]:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    places: list[str] = []
    while frame is not None and len(places) < _FRAMES:
        places.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        frame = frame.f_back
    return places
