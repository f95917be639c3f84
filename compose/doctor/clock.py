"""Compares the clock of a server with the clock of this machine."""

from __future__ import annotations

from compose.doctor.observation import Observation, fine, warning

__all__ = ["clock"]

_MOST = 1.0  # seconds; gates and figures that compare two clocks tolerate a larger difference


def clock(server: float, asked: float, answered: float) -> Observation:
    """Compare a server's clock with this machine's. All times are Unix seconds.

    Args:
        server: The server's time in its answer.
        asked: Our time when we asked.
        answered: Our time when the answer came.
    """
    if asked - _MOST <= server <= answered + _MOST:
        return fine("clock", "as this machine's")
    ahead = server - (asked + answered) / 2
    found = f"{abs(ahead):,.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return warning(
        "clock",
        found,
        "keep clocks in step (NTP): the gate parity and ages of records need it (docs/clocks.md)",
    )
