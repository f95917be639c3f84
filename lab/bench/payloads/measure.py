"""Measures large messages with a payload store: draining them, and their size in the log."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lab.bench.figure import Compared, Figure, Limit
from lab.bench.figures.drain import Drained, drain
from lab.bench.payloads.posts import large_in_the_log, small_beside_without
from lab.bench.payloads.samples import CONTENT_BYTES, envelopes
from lab.bench.payloads.stores import DISTANT, STORES, Store
from lab.bench.plan import Plan
from lab.bench.stand import Stand
from transport.contract import Envelope

__all__ = ["measure"]

_STORE = "payload store"
_OURS = ("worker", "log", "postgres")
_ROWS_PER_SECOND = 5000.0
_CPU_US = 2e6 / _ROWS_PER_SECOND  # CPU time per row of two busy cores
_WITH_CONTENT_SHARE = 3
"""Rows with content take several times as long, so only a third of the messages is drained."""


async def measure(stand: Stand, plan: Plan) -> list[Figure]:
    """Drain messages of 64 KiB from each store, then post small and large ones."""
    runs = min(plan.runs, 3)
    records = list(envelopes(plan.payloads))
    figures: list[Figure] = []
    for name, store in STORES.items():
        async with store(stand.folder, plan.payloads) as opened:
            there = records[: opened.count]
            drained = [await _drain(stand, opened, there) for _ in range(runs)]
            figures += _limits(name, drained)
            if name == DISTANT:
                some = records[: len(records) // _WITH_CONTENT_SHARE]
                whole = [await _drain(stand, opened, some, in_row=True) for _ in range(runs)]
                figures.append(_beside_content(drained, whole))
    if stand.transport == "redis":
        figures.append(await large_in_the_log(stand))
    figures.append(await small_beside_without(stand, runs))
    return figures


async def _drain(
    stand: Stand, store: Store, records: Sequence[Envelope], *, in_row: bool = False
) -> Drained:
    settings = dict(store.settings)
    if in_row:
        settings["PAYLOAD_ROW_BYTES"] = str(CONTENT_BYTES)
    if store.pid is not None:
        stand.others[_STORE] = store.pid
    try:
        return await drain(stand, len(records), "", records=records, settings=settings)
    finally:
        stand.others.pop(_STORE, None)


def _limits(name: str, drained: Sequence[Drained]) -> list[Figure]:
    return [
        Limit(
            name=f"draining 64 KiB each, {name}, with the worker's start",
            unit="rows/s",
            # Including the start: in such a short drain, many records are already read ahead when
            # the first rows are committed.
            values=[one.whole_rate for one in drained],
            limit=_ROWS_PER_SECOND,
            must_be="at least",
            details=_details(drained),
        ),
        Limit(
            name=f"the same: CPU of {', '.join(_OURS)}",
            unit="us",
            values=[sum(one.parts_us[part] for part in _OURS) for one in drained],
            limit=_CPU_US,
        ),
    ]


def _beside_content(keys: Sequence[Drained], contents: Sequence[Drained]) -> Figure:
    return Compared(
        name=f"draining 64 KiB each, {DISTANT}",
        unit="rows/s",
        ours=[one.whole_rate for one in keys],
        baseline_name=f"PAYLOAD_ROW_BYTES={CONTENT_BYTES}: content in the row",
        baseline=[one.whole_rate for one in contents],
        target=1.0,
        details=_details(contents),
    )


def _details(drained: Sequence[Drained]) -> dict[str, str | float | dict[str, int]]:
    return {
        f"{part} cpu us": round(fmean(one.parts_us[part] for one in drained), 1)
        for part in drained[0].parts_us
    }
