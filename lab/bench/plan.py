"""The sizes of a run: a full plan, and a quick one that only shows that everything works."""

from __future__ import annotations

import msgspec

__all__ = ["FULL", "QUICK", "Plan"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of one run of the benchmarks."""

    runs: int
    """Number of interleaved runs of each side; the median counts."""
    warm_seconds: float
    """Seconds of load before the first run."""
    seconds: float
    """Length of each closed-loop run, in seconds."""
    backlog: int
    """Number of messages to drain, and to post in the measurement of memory."""
    payloads: int
    """Number of messages with content in a payload store to drain."""
    steady_seconds: float
    rows_before: int
    """Number of rows in the table before posting begins, since a look-up in an empty table is too
    cheap."""
    rows_large: int
    """Number of rows of the large table of the whole path."""
    table_sizes: tuple[int, ...]
    """Numbers of rows at which insert and look-up are measured, ascending."""
    backlog_small: int
    backlog_large: int
    """Numbers of messages of the two compared backlogs."""
    rounds: int
    """Number of rounds of the whole path: each service in turn, with each load. With an even
    number, a steady drift of the machine cancels out (``turns.there_and_back``)."""
    connections: tuple[int, ...]
    """Numbers of connections for the whole path, in addition to 64."""
    rates: tuple[float, ...]
    """Rates for the whole path, open loop, in messages per second. A value up to 1.0 is a share of
    the rate with 64 connections in a closed loop."""
    overload_connections: tuple[int, ...]
    """Numbers of connections for the whole path under overload."""


FULL = Plan(
    runs=5,
    warm_seconds=10.0,
    seconds=6.0,
    backlog=200_000,
    payloads=12_000,
    steady_seconds=60.0,
    rows_before=200_000,
    rows_large=10_000_000,
    table_sizes=(100_000, 1_000_000, 10_000_000),
    backlog_small=100_000,
    backlog_large=3_000_000,
    rounds=4,
    connections=(1, 16, 256, 1024),
    rates=(100, 1000, 0.25, 0.5, 0.8, 0.95),
    overload_connections=(256, 2000, 8000),
)
QUICK = Plan(
    runs=1,
    warm_seconds=3.0,
    seconds=2.0,
    backlog=20_000,
    payloads=3_000,
    steady_seconds=5.0,
    rows_before=20_000,
    rows_large=100_000,
    table_sizes=(10_000, 100_000),
    backlog_small=10_000,
    backlog_large=30_000,
    rounds=1,
    connections=(1, 1024),
    rates=(1000, 0.5),
    overload_connections=(2000,),
)
