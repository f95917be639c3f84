"""What the console's own routes take and give, beside :mod:`ingress.console.views`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingress.routes.dead_letter_models import Reasoned
from ingress.routes.models import Model, Time

__all__ = [
    "STATUS_EVENT",
    "ActionPage",
    "ActionView",
    "CancelRequest",
    "LetterGroupView",
    "LetterGroups",
    "Login",
    "Recorded",
    "Session",
    "StatusEvent",
]


class Login(Model):
    """A key to hold for the browser."""

    key: Annotated[str, Field(min_length=1, max_length=1024, pattern="^[!-~]+$")]


class CancelRequest(Model):
    """Why something is done."""

    why: Reasoned


class Recorded(Model):
    """Whether there was something to record."""

    recorded: bool


class Session(Model):
    """Who asks, and what they may do here."""

    keys_required: bool
    name: str | None
    """The key's name; null without one."""
    may_read: bool
    may_act: bool
    """Whether the key has the admin scope: redrive, discard, cancel, change phases."""


class StatusEvent(Model):
    """One event of the stream; ``data`` is JSON: what ``/status`` answers, or a problem."""

    event: Literal["status", "end"]
    data: str


STATUS_EVENT = {"$ref": f"#/components/schemas/{StatusEvent.__name__}"}


class ActionView(Model):
    """Something a person did. ``result`` is null while under way, or if its process died."""

    id: int
    at: Time
    who: str
    action: str
    target: str
    why: str
    result: str | None
    finished_at: Time | None


class ActionPage(Model):
    """What was done by hand, newest first."""

    items: list[ActionView]
    next: str | None


class LetterGroupView(Model):
    """Pending dead letters of one reason and age (`hour`, `day`, `week` or `older`).

    They failed from ``oldest`` on and before ``before``: the bounds to give an action's filter.
    ``error`` is the commonest of ``errors``.
    """

    reason: str
    age: str
    letters: int
    oldest: Time
    newest: Time
    before: Time
    redrives: int
    error: str
    errors: int
    conversations: int


class LetterGroups(Model):
    """Every group, the freshest first."""

    items: list[LetterGroupView]
