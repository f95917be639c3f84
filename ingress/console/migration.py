"""The migration as the console shows it, and the steps that it can take.

The gates are ``migration_guide``'s, which stands above this package: it implements
``MigrationActions``, and ``compose`` hands it in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from ingress.routes.dead_letter_models import Whole
from ingress.routes.models import Model, Reasoned
from ingress.schema.structs import ApiStruct
from persistence.json_types import Time

__all__ = [
    "Direction",
    "EventView",
    "GateView",
    "MigrationActions",
    "MigrationView",
    "PairView",
    "ParityView",
    "PhaseView",
    "QueuedView",
    "SampleView",
    "StandView",
    "StepRequest",
    "StepView",
]

Direction = Literal["forward", "back"]
Verdict = Literal["green", "red", "unknown"]


class PhaseView(ApiStruct, frozen=True):
    """One phase, and the settings it amounts to (an empty one is to be unset)."""

    number: int
    name: str
    what: str
    why: str
    settings: dict[str, str]


class QueuedView(ApiStruct, frozen=True):
    """A step that waits for its gates."""

    to: int
    who: str
    why: str
    until: Time
    red: list[str]


class PairView(ApiStruct, frozen=True):
    """The logs of the first and the last phase. Without ``new``, no migration is planned."""

    old: str
    new: str | None


class StandView(ApiStruct, frozen=True):
    """Where the migration stands. While ``target`` differs from ``phase`` a step is under way."""

    phase: int
    target: int
    epoch: int
    changed_at: Time
    changed_by: str
    why: str
    reached_at: Time
    queued: QueuedView | None
    pair: PairView


class GateView(ApiStruct, frozen=True):
    """One gate's answer: a verdict, one sentence that says why, and what it rests on."""

    name: str
    verdict: Verdict
    reason: str
    evidence: dict[str, Any]
    overridable: bool
    """Whether it may be passed all the same, with a reason of its own."""


class StepView(ApiStruct, frozen=True):
    """A step to a neighbour, judged. ``origin`` is null where there is none: ``refusal`` says why.

    ``epoch`` is the state it was judged on: a decision on an older one is refused.
    """

    direction: Direction
    origin: int | None
    to: int | None
    refusal: str | None
    note: str | None
    epoch: int
    ready: bool
    gates: list[GateView]
    judged_at: Time


class EventView(ApiStruct, frozen=True):
    """One line of the history."""

    at: Time
    kind: str
    from_phase: int
    to_phase: int
    who: str
    why: str
    red: list[str]
    """The gates that were not green when it was decided."""
    passed: dict[str, str]
    """Those of them that were passed all the same, each with its reason."""


class SampleView(ApiStruct, frozen=True):
    """A finding, with where to look."""

    result: str
    partition: int
    message_id: str
    primary_offset: str | None
    shadow_offset: str | None
    correlation_id: str
    trace_url: str | None
    detail: str


class ParityView(ApiStruct, frozen=True):
    """Findings of the last hour's comparisons, by class. ``compared`` of nothing is no parity."""

    primary: str
    shadow: str
    since: Time
    until: Time
    counts: dict[str, int]
    compared: int
    differing: int
    lag: int
    samples: list[SampleView]


class MigrationView(ApiStruct, frozen=True):
    """All but the gates, which take their time. ``reached``: every process is on the target."""

    phases: list[PhaseView]
    stand: StandView | None
    reached: bool
    reached_why: str | None
    events: list[EventView]
    parity: ParityView | None


GateReasons = Annotated[dict[str, Reasoned], Field(max_length=16, default_factory=dict)]


class StepRequest(Model):
    """A step to take: which, on what state it was decided, and why.

    Each gate that is not green and is passed all the same is named, with a reason of its own:
    ``accept_unknown`` those that can't tell, ``overrule`` those that are red.
    A gate that is accepted as unknown and has turned red meanwhile is not passed.
    """

    direction: Direction
    epoch: Whole
    why: Reasoned
    accept_unknown: GateReasons
    overrule: GateReasons


class MigrationActions(Protocol):
    """Looks at the migration and changes it. Methods raise ``Outage`` when PostgreSQL can't."""

    async def view(self) -> MigrationView:
        """Return the state, the history and the latest comparison, without the gates."""

    async def judged(self, direction: Direction) -> StepView:
        """Return the next step in a direction, judged no longer than seconds ago."""

    async def begin(self, request: StepRequest, *, who: str) -> StandView:
        """Begin a step.

        Raises:
            Problem: a gate stands in the way, another step was taken first, or the step is
                unknown.
        """

    async def complete(self, *, who: str) -> bool:
        """Record that every process is on the target, if that is so; return whether it was."""

    async def cancel(self, *, who: str, why: str) -> StandView:
        """Take the queued step away.

        Raises:
            Problem: none is queued.
        """
