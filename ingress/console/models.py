"""Bodies of the console's own routes, beside ``ingress.console.views``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ingress.routes.dead_letter_models import Reasoned
from ingress.routes.models import Model, Time

__all__ = [
    "STATUS_EVENT",
    "TAIL_EVENT",
    "ActionPage",
    "ActionView",
    "CancelRequest",
    "LetterGroupView",
    "LetterGroups",
    "Login",
    "Recorded",
    "Session",
    "StatusEvent",
    "TailEvent",
]


class Login(Model):
    """A key to hold for the browser."""

    key: Annotated[str, Field(min_length=1, max_length=1024, pattern="^[!-~]+$")]


class CancelRequest(Model):
    """Why something is done."""

    why: Reasoned


class Recorded(Model):
    """Whether an action was recorded."""

    recorded: bool


class Session(Model):
    """The key of this browser, and its permissions."""

    keys_required: bool
    name: str | None
    """The key's name; null without one."""
    may_read: bool
    may_act: bool
    """Whether the key has the admin scope: redrive, discard, cancel, change phases."""
    may_produce: bool
    """Whether it has both admin and produce, and so may send a test message from here."""


class StatusEvent(Model):
    """One event of the stream; ``data`` is JSON: what ``/status`` answers, or a problem."""

    event: Literal["status", "end"]
    data: str


class TailEvent(Model):
    """One event of the tail; ``data`` is JSON: news of the log, or a problem."""

    event: Literal["news", "end"]
    data: str


STATUS_EVENT = {"$ref": f"#/components/schemas/{StatusEvent.__name__}"}
TAIL_EVENT = {"$ref": f"#/components/schemas/{TailEvent.__name__}"}


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
    """Recorded operator actions, newest first."""

    items: list[ActionView]
    next: str | None


class LetterGroupView(Model):
    """Pending dead letters of one reason and one cause, which are an action's filter.

    ``cause`` is the error without what differs from letter to letter; ``error`` is the whole of
    the letter ``latest``. Of more than 10,000 letters so many are counted, and ``more`` is true.
    ``conversations`` are those of the latest 1,000. They failed from ``oldest`` to ``newest``.
    """

    reason: str
    cause: str
    letters: int
    more: bool
    oldest: Time
    newest: Time
    redrives: int
    error: str
    latest: int
    conversations: int


class LetterGroups(Model):
    """A page of groups, by reason and cause.

    ``ungrouped`` letters were written by an older release, and are being given their cause.
    """

    items: list[LetterGroupView]
    next: str | None
    ungrouped: int
