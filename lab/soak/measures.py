"""The measures of a soak, with their units and limits of growth.

The name of a series is a measure and a source, such as ``memory/worker-1``.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MEASURES", "Measure", "measure_of"]


class Measure(NamedTuple):
    """One measure and its limit of growth.

    From the end of its warm-up to its own end, a series may grow by ``share`` of its first value or
    by ``least``, whichever is larger. The limit does not depend on the length of the soak, so a
    longer soak allows less growth per hour.
    """

    title: str
    says: str
    unit: str
    share: float
    least: float
    per_message: bool = False
    """Whether it grows by design with each message; ``least`` is then in bytes per message."""


MEASURES = {
    "memory": Measure(
        "Memory", "resident, of each process; of PostgreSQL what is its processes' own", "MB",
        0.1, 12.0,
    ),
    "objects": Measure(
        "Objects", "small ones that live in a process of ours, as Python counts them", "",
        0.05, 20_000.0,
    ),
    "descriptors": Measure("Descriptors", "open files and sockets of a process", "", 0.1, 6.0),
    "threads": Measure("Threads", "of a process", "", 0.1, 3.0),
    "connections": Measure("Connections", "sessions of clients in PostgreSQL", "", 0.1, 4.0),
    "table": Measure(
        "Tables", "of the largest tables, without their indexes", "MB", 0.15, 6.0
    ),
    "index": Measure("Indexes", "all indexes of a table", "MB", 0.15, 6.0),
    "kept": Measure(
        "Kept for ever", "tombstones of archived rows, dead letters: they grow by design", "MB",
        0.0, 400.0, per_message=True,
    ),
    "records": Measure("Records in the log", "all partitions and topics together", "", 0.2, 2000.0),
    "bytes": Measure("Size of the log", "as its server tells it", "MB", 0.2, 8.0),
    "disk": Measure(
        "Disk", "the folder of a server's data, its write-ahead log with it, without what "
        "PostgreSQL keeps for ever", "MB", 0.25, 160.0,
    ),
    "lag": Measure("Lag", "records after the workers' position", "", 0.5, 500.0),
    "age": Measure("Oldest record", "its age, of those after that position", "s", 0.5, 5.0),
    "post": Measure("Latency", "of a POST, from when it was due", "ms", 0.5, 250.0),
    "failed": Measure("Not answered", "of a hundred POSTs", "%", 0.5, 5.0),
}  # fmt: skip


def measure_of(series: str) -> Measure:
    """Return the measure of a series."""
    return MEASURES[series.partition("/")[0]]
