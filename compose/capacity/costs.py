"""The cost of one message, as ``python -m lab.bench.costs`` measured it."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["DATA", "Cost", "Costs", "measured_costs"]

DATA = Path(__file__).with_name("costs.json")


class Cost(msgspec.Struct, frozen=True):
    """CPU time of one message, in microseconds."""

    message: float
    """The cost of a message without content."""
    per_kb: float
    """The additional cost of each kilobyte of content."""

    def of(self, content_bytes: int) -> float:
        """Return the seconds of CPU for a message of this size."""
        return (self.message + self.per_kb * content_bytes / 1000) / 1e6


class Costs(msgspec.Struct, frozen=True):
    """Costs by part (``ingress``, ``worker``, ``log``, ``postgres``), and their measurement."""

    measured_at: str
    machine: str
    log: str
    postgres: str
    parts: dict[str, Cost]


def measured_costs() -> Costs:
    """Read the measured costs."""
    return msgspec.json.decode(DATA.read_bytes(), type=Costs)
