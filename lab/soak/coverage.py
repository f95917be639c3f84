"""Decides whether a soak has enough messages, rounds and samples for a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lab.soak.record import SoakBegan, SoakRecord, SoakRound

__all__ = ["shortfalls", "unseen"]

_MESSAGES = 0.5  # share of the messages due at the rate; faults and a busy machine cost some
_SEEN = 0.5  # share of the samples; during a fault a server can't be read for seconds
_QUARTERS = 4
_NAMED = 5


def shortfalls(began: SoakBegan, rounds: Sequence[SoakRound]) -> list[str]:
    """Return, as sentences, where the soak had too little load: an idle service proves nothing."""
    if not rounds:
        return []  # the report already says that no round was judged
    found = []
    due = began.options.rate * sum(round_.ended - round_.begun for round_ in rounds)
    messages = sum(round_.messages for round_ in rounds)
    if messages < _MESSAGES * due:
        found.append(f"only {messages:,} of {due:,.0f} messages were acknowledged")
    if idle := [str(round_.number) for round_ in rounds if not round_.messages]:
        more = ", ..." if len(idle) > _NAMED else ""
        plural = "s" if len(idle) > 1 else ""
        found.append(
            f"no message was acknowledged in round{plural} {', '.join(idle[:_NAMED])}{more}"
        )
    return found


def unseen(
    record: SoakRecord,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    begins: float,
    ends: float,
) -> list[str]:
    """Return the required series that have too few points for a verdict.

    Each quarter of the judged time must have enough points: a source may fail to answer just when
    something is wrong.

    Args:
        record: The record of the soak.
        series: The points of each series.
        begins: Begin of the judged time, in seconds.
        ends: End of the judged time, in seconds.
    """
    span = (ends - begins) / _QUARTERS
    quarters = [(begins + n * span, begins + (n + 1) * span) for n in range(_QUARTERS)]
    looks = [sample.at for sample in record.samples]
    return [
        name
        for name in _implied(record.began)
        if not all(
            _within([at for at, _ in series.get(name, ())], quarter)
            >= max(1, _SEEN * _within(looks, quarter))
            for quarter in quarters
        )
    ]


def _implied(began: SoakBegan) -> list[str]:
    log = began.options.log
    return [
        *(f"memory/{name}" for name in began.spared),
        "connections/PostgreSQL",  # stands for the sizes of tables, which are read with it
        f"lag/{log}",
        f"records/{log}",
        "failed/POST",
    ]


def _within(moments: Sequence[float], span: tuple[float, float]) -> int:
    return sum(span[0] <= at <= span[1] for at in moments)
