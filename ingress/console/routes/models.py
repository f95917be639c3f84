"""Bodies of the console's own routes, beside ``ingress.console.views``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingress.routes.dead_letter_models import Whole
from ingress.routes.models import Model, Reasoned
from ingress.schema.structs import ApiStruct
from persistence.dead_letters.groups import LetterGroup
from persistence.operator_actions import Action

__all__ = [
    "STATUS_EVENT",
    "TAIL_EVENT",
    "ActionPage",
    "CancelRequest",
    "LetterGroups",
    "Login",
    "Recorded",
    "Session",
    "StatusEvent",
    "TailEvent",
]


class Login(Model):
    """The API key of a new session."""

    key: Annotated[str, Field(min_length=1, max_length=1024, pattern="^[!-~]+$")]


class CancelRequest(Model):
    """The reason for cancelling a queued step, and the epoch at which the step was seen."""

    why: Reasoned
    epoch: Whole | None = None
    """The step that is queued at another epoch stays. Null cancels any."""


class Recorded(ApiStruct, frozen=True):
    """Whether the completed step was recorded."""

    recorded: bool


class Session(ApiStruct, frozen=True):
    """The key that this browser holds, and its permissions."""

    keys_required: bool
    name: str | None
    """The key's name; null without a key."""
    may_read: bool
    """Whether the key has the read scope. Without it, nothing that names a message is shown."""
    may_act: bool
    """Whether the key has the admin scope: redrive, discard, cancel, change phases."""
    may_produce: bool
    """Whether the key has the scopes admin and produce: it may send a test message."""


class StatusEvent(ApiStruct, frozen=True):
    """One event of the status stream. ``data`` is JSON: the answer of ``/status``, or a problem."""

    event: Literal["status", "end"]
    data: str


class TailEvent(ApiStruct, frozen=True):
    """One event of the tail. ``data`` is JSON: new records and outcomes, or a problem."""

    event: Literal["news", "end"]
    data: str


STATUS_EVENT = {"$ref": f"#/components/schemas/{StatusEvent.__name__}"}
TAIL_EVENT = {"$ref": f"#/components/schemas/{TailEvent.__name__}"}


class ActionPage(ApiStruct, frozen=True):
    """Recorded operator actions, newest first."""

    items: list[Action]
    next: str | None


class LetterGroups(ApiStruct, frozen=True):
    """A page of groups of dead letters, by reason and cause.

    ``ungrouped`` counts dead letters of an older release, whose cause is still to be set.
    """

    items: list[LetterGroup]
    next: str | None
    ungrouped: int
