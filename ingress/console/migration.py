"""The migration's views for the console, and the interface of its actions.

This package can't import ``migration_guide``, which has the gates. ``migration_guide`` implements
``MigrationActions``, and ``compose`` passes that implementation in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from ingress.console.views import MigrationBrief
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
    """One phase, and its settings. An empty setting is to be unset."""

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


class StandView(MigrationBrief, frozen=True):
    """The state of the migration. A step is under way while ``target`` differs from ``phase``."""

    reached_at: Time
    queued: QueuedView | None
    pair: PairView


class GateView(ApiStruct, frozen=True):
    """One gate's answer: its verdict, the reason in one sentence, and the evidence."""

    name: str
    verdict: Verdict
    reason: str
    evidence: dict[str, Any]
    overridable: bool
    """Whether an operator may pass the gate although it is not green, with a reason for it."""


class StepView(ApiStruct, frozen=True):
    """A step to the next or the previous phase, with its gates' answers.

    If there is no such step, ``origin`` is null and ``refusal`` says why. ``epoch`` is the state
    that the gates judged: a decision on an older epoch is refused.
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
    """One event in the migration's history."""

    at: Time
    kind: str
    from_phase: int
    to_phase: int
    who: str
    why: str
    red: list[str]
    """The gates that were not green at the decision."""
    passed: dict[str, str]
    """The gates of these that an operator passed, each with the reason."""


class SampleView(ApiStruct, frozen=True):
    """One finding of the comparison, with the message's id and offsets."""

    result: str
    partition: int
    message_id: str
    primary_offset: str | None
    shadow_offset: str | None
    correlation_id: str
    trace_url: str | None
    detail: str


class ParityView(ApiStruct, frozen=True):
    """The findings of the last hour's comparisons, by class.

    If ``compared`` is 0, nothing was compared, which proves no parity.
    """

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
    """The migration without its gates, which take longer.

    ``reached`` is true if every process has the settings of the target.
    """

    phases: list[PhaseView]
    stand: StandView | None
    reached: bool
    reached_why: str | None
    events: list[EventView]
    parity: ParityView | None


GateReasons = Annotated[dict[str, Reasoned], Field(max_length=16, default_factory=dict)]


class StepRequest(Model):
    """A step to take: its direction, the epoch that it was decided on, and the reason.

    A gate that is not green has to be named to be passed, with a reason of its own:
    ``accept_unknown`` is for gates that are unknown, ``overrule`` for gates that are red. A gate
    in ``accept_unknown`` that has turned red meanwhile is not passed.
    """

    direction: Direction
    epoch: Whole
    why: Reasoned
    accept_unknown: GateReasons
    overrule: GateReasons


class MigrationActions(Protocol):
    """Reads and changes the migration. Its methods raise ``Outage`` if PostgreSQL can't answer."""

    async def view(self) -> MigrationView:
        """Return the state, the history and the latest comparison, without the gates."""

    async def judged(self, direction: Direction) -> StepView:
        """Return the next step in a direction, with gates that were judged within seconds."""

    async def begin(self, request: StepRequest, *, who: str) -> StandView:
        """Begin a step.

        Raises:
            Problem: A gate does not allow it, the epoch has changed, or there is no such step.
        """

    async def complete(self, *, who: str) -> bool:
        """Record that every process is on the target, if this is true; return whether it is."""

    async def cancel(self, *, who: str, why: str, epoch: int | None = None) -> StandView:
        """Remove the queued step.

        Raises:
            Problem: No step is queued, or the epoch has changed.
        """
