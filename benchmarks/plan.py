"""Sizes of a run: the full one, and a quick one that only shows that all works."""

from __future__ import annotations

import msgspec

__all__ = ["FULL", "QUICK", "Plan"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of one run of the benchmarks."""

    runs: int
    """Interleaved runs of each side; the median counts."""
    warm_seconds: float
    """Seconds of load before the first run."""
    seconds: float
    """Seconds of each closed-loop run."""
    backlog: int
    """Messages to drain, and messages to post while memory is watched."""
    payloads: int
    """Messages to drain whose content is in a payload store."""
    steady_seconds: float
    rows_before: int
    """Rows already in the table when posting begins: a look-up in an empty table is no look-up."""
    rows_large: int
    """Rows of the large table of the whole path."""
    table_sizes: tuple[int, ...]
    """Rows of the table at which its insert and its look-up are measured, ascending."""
    backlog_small: int
    backlog_large: int
    """Messages of the backlogs that are compared."""
    rounds: int
    """Rounds of the whole path: each service in turn, with each load. An even number lets a steady
    drift of the machine cancel out (``turns.there_and_back``)."""
    connections: tuple[int, ...]
    """Numbers of connections for the whole path, beside 64."""
    rates: tuple[float, ...]
    """Rates for the whole path, open loop: messages a second; up to 1.0, a share of the rate that
    64 connections reach."""
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
