"""Records of soaks that never ran, to judge and to draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.rehearsal.report import PROMISES, Finding
from lab.soak.options import SoakOptions
from lab.soak.record import SoakBegan, SoakEnded, SoakFault, SoakRecorder, SoakRound, SoakSample

__all__ = ["write_record"]

_HOUR = 3600.0


def write_record(  # noqa: PLR0913 - each test changes one of them
    path: Path,
    *,
    hours: float = 1.0,
    memory: Callable[[float], float] = lambda _: 90.0,
    unseen: Callable[[str, float], bool] = lambda _series, _at: False,
    messages: Callable[[int], int] = lambda _: 18_000,
    judged: int | None = None,
    lost: int = 0,
    why: str | None = None,
    ended: bool = True,
) -> None:
    """Write the record of a soak whose first worker's memory is ``memory(seconds)``, in MB.

    Args:
        path: Of the file.
        hours: Its length.
        memory: Returns MB at a moment.
        unseen: Returns whether a series can't be read at a moment.
        messages: Returns how many are acknowledged in a round.
        lost: How many of the second round's are lost.
        judged: How many rounds were judged; all of them by default.
        why: It ended early.
        ended: Whether it has its last line.
    """
    options = SoakOptions(minutes=hours * 60, seed=3)
    with SoakRecorder(path) as record:
        record.add(
            SoakBegan(started_at="2026-11-27T00:00:00+00:00", options=options, spared=["worker-1"])
        )
        for number in range(int(hours * _HOUR / options.sample_seconds)):
            at = number * options.sample_seconds
            values = {
                "memory/worker-1": memory(at),
                "descriptors/worker-1": 30.0 + number % 2,
                "connections/PostgreSQL": 25.0,
                "kept/tombstones": at * 100 * 170 / 1e6,
                "failed/POST": 0.0,
                "post/p99": 20.0,
                "lag/redis": float(number % 7),
                "records/redis": 4_000.0,
            }
            seen = {name: value for name, value in values.items() if not unseen(name, at)}
            record.add(SoakSample(at=at, values=seen))
        rounds = int(hours * _HOUR / options.round_seconds)
        for number in range(rounds if judged is None else judged):
            begun = number * options.round_seconds
            verdict = dict.fromkeys(PROMISES, 0)
            findings = []
            if number == 1 and lost:
                verdict["lost"] = lost
                findings = [Finding("LOST", "key<1>", "acknowledged 1x")]
            record.add(
                SoakRound(
                    number=number + 1, begun=begun, ended=begun + options.round_seconds,
                    judged=begun + options.round_seconds + 1, messages=messages(number),
                    posts=20_000, answered=19_900, rows=18_000, receipts=1_800, archived=18_000,
                    verdict=verdict, findings=findings,
                )
            )  # fmt: skip
        record.add(SoakFault(victim="worker-2", way="kill", begun=50.0, healed=52.0, went_on=52.5))
        if ended:
            record.add(SoakEnded(at=hours * _HOUR + 2, why=why, rounds=rounds))
