"""Options of a rehearsal."""

from __future__ import annotations

import msgspec

from lab.harness.proxy import ProxyKind
from persistence.fleet.log_choice import FIRST_PAIR, LogPair

__all__ = ["THERE_AND_BACK", "Options"]

THERE_AND_BACK = (0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0)


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Options of a rehearsal: its length, its load and its faults."""

    seconds_per_phase: float = 12.0
    """How long each phase lasts after its rolling restart."""
    minutes: float | None = None
    """How long the whole walk takes, in place of ``seconds_per_phase``; a phase lasts two seconds
    at least."""
    rate: float | None = None
    """New messages per second of all writers together, if answers come in time. ``None``: half of
    what the machine sustains, which is measured first."""
    conversations: int | None = None
    """Conversations with one writer each; ``None``: enough to keep the rate."""
    crowded: int = 6
    """Conversations with three writers each, whose requests overlap."""
    ingresses: int = 2
    workers: int = 2
    faults: bool = False
    """Kill, suspend and restart processes and servers, in every phase and in every restart."""
    faults_per_phase: int | None = None
    """Number of faults in each phase, with none in its restart; ``None``: as many as fit, in
    both."""
    large: float = 0.0
    """Share of bodies with large content, which goes to a payload store."""
    s3: bool = False
    """Whether that store is an S3 server, which gets faults too; else it is a folder."""
    seed: int = 0
    """Seed of the load and the faults. The same seed gives the same faults in the same order, but
    not at the same times."""
    gate_seconds: float = 300.0
    """How long a gate may stay red before the rehearsal stops."""
    parity_seconds: float = 20.0
    """Seconds of the past that the parity gate covers. A fault can leave a lasting difference in
    the order of the logs, and a rehearsal has a fault every few seconds."""
    phases: tuple[int, ...] = THERE_AND_BACK
    """The phases of the walk; each is next to the one before."""
    replayed_conversations: int = 6
    """Number of conversations to replay against the specification."""
    replayed_messages: int = 1000
    """Approximate number of messages to replay."""
    replay_seconds: float = 900.0
    """Time limit of TLC for the whole replay, in seconds; 0: no replay."""
    proxy: ProxyKind | None = None
    """The proxy that all clients use; ``None``: clients know each ingress and its state."""
    pair: LogPair = FIRST_PAIR
    """The logs of the migration."""
