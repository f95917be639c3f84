"""A migration as data: six phases, and the ten steps between neighbours with their gates.

The phases are functions of the two logs; the steps are the same for any two. ``crossfade migrate``
acts on them and the chapters in ``migration_guide/guide`` are made from them, so that the two can't
disagree.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from persistence.fleet.log_choice import Choice, LogPair, choices

__all__ = ["LAST", "STEPS", "Phase", "PhaseStep", "log_title", "phases", "step"]

LAST = 5
"""The number of the last phase."""


class Phase(NamedTuple):
    """One combination of settings. ``why`` and ``watch`` are for people."""

    number: int
    name: str
    choice: Choice
    what: str
    why: str
    watch: tuple[str, ...]

    @property
    def label(self) -> str:
        """The phase as people read it: ``2 mirror``."""
        return f"{self.number} {self.name}"


class PhaseStep(NamedTuple):
    """From one phase to a neighbour. ``gates`` are names in ``migration_guide.gates.GATES``."""

    origin: int
    to: int
    gates: tuple[str, ...]
    note: str = ""

    @property
    def forward(self) -> bool:
        """Whether it leads to the new log."""
        return self.to > self.origin


def log_title(name: str) -> str:
    """Return a log's name as it stands in a sentence: ``Redis``, ``Kafka``, ``redis@32``."""
    return name.capitalize() if name in ("redis", "kafka") else name


@lru_cache
def phases(pair: LogPair) -> tuple[Phase, ...]:
    """Return the phases of a migration by number; the first alone where none is planned."""
    settings = choices(pair)
    old = log_title(pair.old)
    if pair.new is None:
        return (
            Phase(
                0,
                pair.old,
                settings[0],
                f"{old} is written and read. No migration is planned.",
                "Where every installation begins.",
                (f"stream_partition_lag{{transport='{pair.old}'}}", "stream_dead_letter_total"),
            ),
        )
    new = log_title(pair.new)
    return (
        Phase(
            0,
            pair.old,
            settings[0],
            f"{old} is written and read. Nothing is written to {new}.",
            "Where every migration begins.",
            (f"stream_partition_lag{{transport='{pair.old}'}}", "stream_dead_letter_total"),
        ),
        Phase(
            1,
            "shadow",
            settings[1],
            f"Every message is copied to {new} after its POST was answered.",
            f"To see {new} take the whole load, without anything depending on it: if it is slow, "
            "refuses or vanishes, neither the status nor the latency of a POST changes. The copies "
            "that it misses are counted.",
            (
                "shadow_publish_total{outcome}",
                "shadow_lag_messages{partition}",
                "shadow_parity_total{result}",
            ),
        ),
        Phase(
            2,
            "mirror",
            settings[2],
            f"A POST is answered when both logs have the message. Workers read {old}.",
            "From here on a message that was sent after another's acknowledgement stands after it "
            "in both logs, which is what makes the next step safe. It costs the latency of "
            f"{new} on every POST, and while {new} is down clients get 503.",
            (
                "ingress_append_duration_seconds",
                "shadow_publish_total{outcome}",
                "shadow_parity_total{result}",
                "the share of POSTs answered 503",
            ),
        ),
        Phase(
            3,
            "consume",
            settings[3],
            f"Workers read {new}. Both logs are still written, {old} first.",
            "To see the new log carry the reading while the old one stays complete: going back is "
            "one restart away.",
            (
                f"stream_partition_lag{{transport='{pair.new}'}}",
                "stream_processing_duration_seconds",
                "stream_consumer_processed_total{status}",
            ),
        ),
        Phase(
            4,
            "primary",
            settings[4],
            f"{new} is written first, {old} after it; workers read {new}.",
            f"{new} now decides. {old} is still complete, so everything can still be taken back.",
            (
                "ingress_append_duration_seconds",
                f"stream_enqueue_total{{transport='{pair.new}'}}",
                "idempotency_hit_total{operation}",
            ),
        ),
        Phase(
            5,
            pair.new,
            settings[5],
            f"{new} is written and read. {old} is no longer written.",
            f"The end. Keep {old} running until you are sure: going back needs it.",
            (f"stream_partition_lag{{transport='{pair.new}'}}", "stream_dead_letter_total"),
        ),
    )


STEPS: tuple[PhaseStep, ...] = (
    PhaseStep(0, 1, ("processes", "identity")),
    PhaseStep(1, 2, ("processes", "identity", "shadow", "homes")),
    PhaseStep(
        2,
        3,
        (
            "processes",
            "identity",
            "workers",
            "homes",
            "shadow",
            "dropped",
            "watermark",
            "parity",
            "start",
            "durability",
        ),
    ),
    PhaseStep(
        3,
        4,
        ("processes", "identity", "workers", "shadow", "dropped", "parity", "durability"),
    ),
    PhaseStep(
        4,
        5,
        (
            "processes",
            "identity",
            "workers",
            "shadow",
            "dropped",
            "parity",
            "drained",
            "durability",
        ),
    ),
    PhaseStep(1, 0, ("processes", "identity")),
    PhaseStep(2, 1, ("processes", "identity")),
    PhaseStep(3, 2, ("processes", "identity", "watermark", "start")),
    PhaseStep(
        4,
        3,
        ("processes", "identity", "watermark"),
        "In phase 3 records of the old log may become rows again, once all is persisted that phase "
        "5 left out of it.",
    ),
    PhaseStep(
        5,
        4,
        ("processes", "identity", "homes"),
        "The old log has none of the messages accepted in phase 5. Those that are rows do not need "
        "it; the gate of the step back to phase 3 waits until all are. Where other programs read "
        "the old log too, fill it first with 'crossfade migrate backfill'.",
    ),
)


def step(origin: int, to: int) -> PhaseStep:
    """Return the step between two neighbours.

    Raises:
        KeyError: there is none.
    """
    for step in STEPS:
        if (step.origin, step.to) == (origin, to):
            return step
    raise KeyError((origin, to))
