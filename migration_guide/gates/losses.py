"""Records that a log of the pair has lost, however long ago: for gates that rest on offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transport.contract import Progress, Transport

__all__ = ["AFTER_A_LOSS", "losses_in_words", "lost_of"]

AFTER_A_LOSS = (
    "stop what removed them, see that 'crossfade audit' is clean, and accept it with a reason"
)
"""The remedy of a gate that a loss leaves unknown."""

Lost = Mapping[str, Mapping[int, int]]


def lost_of(*logs: tuple[Transport, Sequence[Progress]]) -> dict[str, dict[int, int]]:
    """Count the records that each log has lost, by name and partition, without logs of none."""
    found = {log.name: {part.partition: part.lost for part in of if part.lost} for log, of in logs}
    return {name: lost for name, lost in found.items() if lost}


def losses_in_words(lost: Lost) -> str:
    """Return losses as a part of a sentence."""
    return " and ".join(
        f"{name} once lost {sum(of.values())} records (partitions {', '.join(map(str, of))})"
        for name, of in lost.items()
    )
