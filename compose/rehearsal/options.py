"""Options of a rehearsal."""

from __future__ import annotations

import msgspec

from compose.local.proxy import ProxyKind
from persistence.fleet.log_choice import FIRST_PAIR, LogPair

__all__ = ["THERE_AND_BACK", "Options"]

THERE_AND_BACK = (0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0)


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Options of a rehearsal: its length, its load and its faults."""

    seconds_per_phase: float = 12.0
    """How long each phase is stayed in, after its rolling restart."""
    minutes: float | None = None
    """How long the whole walk takes instead; a phase is stayed in for at least two seconds."""
    rate: float | None = None
    """New messages a second, all writers together, as long as they are answered in time; ``None``:
    half of what the machine sustains, which is tried out first."""
    conversations: int | None = None
    """Conversations with one writer each; ``None``: as many as keep the rate."""
    crowded: int = 6
    """Conversations with three writers each, whose requests overlap."""
    ingresses: int = 2
    workers: int = 2
    faults: bool = False
    """Kill, suspend and restart processes and servers, in every phase and in every restart."""
    faults_per_phase: int | None = None
    """Faults in each phase, and none in its restarts; ``None``: as many as fit, in both."""
    large: float = 0.0
    """The share of bodies whose content is large, and so in a payload store."""
    s3: bool = False
    """Whether that store is an S3 server, which has faults too, and not a folder."""
    seed: int = 0
    """Seeds the load's and the faults' dice. The same seed gives the same faults in the same order,
    though not at the same instants."""
    gate_seconds: float = 300.0
    """How long a gate may stay red before the rehearsal stops there."""
    parity_seconds: float = 20.0
    """How far back gates ask for parity. What a fault left behind in the logs' order stays there,
    and a rehearsal has a fault every few seconds."""
    phases: tuple[int, ...] = THERE_AND_BACK
    """The phases to walk through; each a neighbour of the one before."""
    replayed_conversations: int = 6
    """How many conversations are replayed against the specification."""
    replayed_messages: int = 1000
    """About how many of their messages."""
    replay_seconds: float = 900.0
    """How long TLC may take for all of them, in seconds; 0: none is replayed."""
    proxy: ProxyKind | None = None
    """The proxy that all clients use; ``None``: they know each ingress, and which one is down."""
    pair: LogPair = FIRST_PAIR
    """The logs to walk between."""
