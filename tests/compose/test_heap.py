"""What the bodies of a burst leave behind in the heap, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc, and glibc's heap is what it is about"
)

# 300 bodies of 70 to 190 KB, and between them small objects that stay, as accepted messages do.
_BURST = """
import sys
from compose.process.heap import return_large_buffers

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) // 1024

if sys.argv[1] == "returned":
    return_large_buffers()
b"x" * 200_000  # its end raises the limit for those that follow
before = resident()
bodies, kept = [], []
for number in range(300):
    bodies.append(b"x" * (70_000 + number * 400))
    kept.append(b"y" * 5_000)
bodies.clear()
print(resident() - before)
"""


def _left(how: str) -> int:
    """Return how many MiB a burst leaves."""
    ran = subprocess.run(
        [sys.executable, "-c", _BURST, how], check=True, capture_output=True, text=True
    )
    return int(ran.stdout)


def test_large_buffers_are_returned_though_small_ones_stay_between_them() -> None:
    assert _left("returned") < 12


def test_without_that_they_are_kept() -> None:
    """It is what the heap does by itself: where this fails, the other test says nothing."""
    assert _left("kept") > 20
