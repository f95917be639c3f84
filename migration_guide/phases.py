"""The migration as data: six phases, and the ten steps between neighbours with their gates.

``crossfade migrate`` acts on it and the chapters in ``migration_guide/guide`` are held to it by a
test, so that the two can't disagree.
"""

from __future__ import annotations

from typing import NamedTuple

from migration_guide.choice import CHOICES, Choice

__all__ = ["PHASES", "STEPS", "Phase", "PhaseStep", "step"]


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


PHASES: tuple[Phase, ...] = (
    Phase(
        0,
        "redis",
        CHOICES[0],
        "Redis is written and read. Nothing is written to Kafka.",
        "Where every installation begins.",
        ("stream_partition_lag{transport='redis'}", "stream_dead_letter_total"),
    ),
    Phase(
        1,
        "shadow",
        CHOICES[1],
        "Every message is copied to Kafka after its POST was answered.",
        "To see Kafka take the whole load, without anything depending on it: a slow, refusing or "
        "vanished Kafka changes neither the status nor the latency of a POST. What it misses is "
        "counted.",
        (
            "shadow_publish_total{outcome}",
            "shadow_lag_messages{partition}",
            "shadow_parity_total{result}",
        ),
    ),
    Phase(
        2,
        "mirror",
        CHOICES[2],
        "A POST is answered when both logs have the message. Workers read Redis.",
        "From here on a message that was sent after another's acknowledgement stands after it in "
        "both logs, which is what makes the next step safe. It costs Kafka's latency on every "
        "POST, and a Kafka that is down means 503.",
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
        CHOICES[3],
        "Workers read Kafka. Both logs are still written, Redis first.",
        "To see the new log carry the reading while the old one stays complete: going back is one "
        "restart away.",
        (
            "stream_partition_lag{transport='kafka'}",
            "stream_processing_duration_seconds",
            "stream_consumer_processed_total{status}",
        ),
    ),
    Phase(
        4,
        "primary",
        CHOICES[4],
        "Kafka is written first, Redis after it; workers read Kafka.",
        "Kafka now decides. Redis is still complete, so everything can still be taken back.",
        (
            "ingress_append_duration_seconds",
            "stream_enqueue_total{transport='kafka'}",
            "idempotency_hit_total{operation}",
        ),
    ),
    Phase(
        5,
        "kafka",
        CHOICES[5],
        "Kafka is written and read. Redis is no longer written.",
        "The end. Keep Redis running until you are sure: going back needs it.",
        ("stream_partition_lag{transport='kafka'}", "stream_dead_letter_total"),
    ),
)

STEPS: tuple[PhaseStep, ...] = (
    PhaseStep(0, 1, ("processes",)),
    PhaseStep(1, 2, ("processes", "shadow", "homes")),
    PhaseStep(
        2,
        3,
        (
            "processes",
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
    PhaseStep(3, 4, ("processes", "workers", "shadow", "dropped", "parity", "durability")),
    PhaseStep(
        4,
        5,
        ("processes", "workers", "shadow", "dropped", "parity", "drained", "durability"),
    ),
    PhaseStep(1, 0, ("processes",)),
    PhaseStep(2, 1, ("processes",)),
    PhaseStep(3, 2, ("processes", "watermark", "start")),
    PhaseStep(
        4,
        3,
        ("processes", "watermark"),
        "In phase 3 a standby of Redis may persist what Kafka's readers leave waiting: it must not "
        "meet the holes that phase 5 left in Redis while what fills them waits in Kafka.",
    ),
    PhaseStep(
        5,
        4,
        ("processes", "homes"),
        "Redis has none of the messages accepted in phase 5. Those that are rows do not need it; "
        "the gate of the step back to phase 3 waits until all are. Where others read Redis too, "
        "fill it first with 'crossfade migrate backfill'.",
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
