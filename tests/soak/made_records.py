"""Records of soaks that never ran, to judge and to draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compose.rehearsal.report import PROMISES, Finding
from compose.soak.options import SoakOptions
from compose.soak.record import SoakBegan, SoakEnded, SoakFault, SoakRecorder, SoakRound, SoakSample

__all__ = ["write_record"]

_HOUR = 3600.0


def write_record(
    path: Path,
    *,
    hours: float = 1.0,
    memory: Callable[[float], float] = lambda _: 90.0,
    lost: int = 0,
    why: str | None = None,
    ended: bool = True,
) -> None:
    """Write the record of a soak whose first worker's memory is ``memory(seconds)``, in MB."""
    options = SoakOptions(minutes=hours * 60, seed=3)
    with SoakRecorder(path) as record:
        record.add(
            SoakBegan(started_at="2026-11-27T00:00:00+00:00", options=options, spared=["worker-1"])
        )
        for number in range(int(hours * _HOUR / options.sample_seconds)):
            at = number * options.sample_seconds
            record.add(
                SoakSample(
                    at=at,
                    values={
                        "memory/worker-1": memory(at),
                        "descriptors/worker-1": 30.0 + number % 2,
                        "kept/tombstones": at * 100 * 170 / 1e6,
                        "post/p99": 20.0,
                        "lag/redis": float(number % 7),
                    },
                )
            )
        for number in range(int(hours * _HOUR / options.round_seconds)):
            begun = number * options.round_seconds
            verdict = dict.fromkeys(PROMISES, 0)
            findings = []
            if number == 1 and lost:
                verdict["lost"] = lost
                findings = [Finding("LOST", "key<1>", "acknowledged 1x")]
            record.add(
                SoakRound(
                    number=number + 1, begun=begun, ended=begun + options.round_seconds,
                    judged=begun + options.round_seconds + 1, messages=18_000, posts=20_000,
                    answered=19_900, rows=18_000, receipts=1_800, archived=18_000,
                    verdict=verdict, findings=findings,
                )
            )  # fmt: skip
        record.add(SoakFault(victim="worker-2", way="kill", begun=50.0, healed=52.0, went_on=52.5))
        if ended:
            record.add(SoakEnded(at=hours * _HOUR + 2, why=why))
