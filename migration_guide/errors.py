"""Refusals to change the migration's state; each text names the remedy."""

from __future__ import annotations

__all__ = [
    "IncompleteCopy",
    "MigrationError",
    "NotAStep",
    "NotPlanned",
    "NotRetired",
    "NotStarted",
    "Overtaken",
    "StepQueued",
]


class MigrationError(Exception):
    """Root: nothing was changed."""


class NotStarted(MigrationError):  # noqa: N818 - a state, not a mistake
    """No process of ours has ever run against this database."""

    def __init__(self) -> None:
        super().__init__(
            "no process has said yet what it runs: start the service first ('crossfade serve', or "
            "'make up'), and the migration begins at the phase of its settings"
        )


class NotAStep(MigrationError):  # noqa: N818
    """The phase asked for is not a neighbour, or another step is under way."""


class IncompleteCopy(MigrationError):  # noqa: N818
    """The log that is left may lack messages that were acknowledged."""


class NotPlanned(MigrationError):  # noqa: N818
    """The log can't be migrated to, or a process stands in the way of a new plan."""


class NotRetired(MigrationError):  # noqa: N818
    """The log is in use, or may be needed."""


class Overtaken(MigrationError):  # noqa: N818
    """The state changed after it was read, so the decision is void."""

    def __init__(self, decided_on: int) -> None:
        super().__init__(
            f"somebody changed the migration after it was looked at (epoch {decided_on} is over): "
            "look again with 'crossfade migrate status', and decide again"
        )


class StepQueued(MigrationError):  # noqa: N818
    """A step waits for its gates already."""

    def __init__(self, to: int, who: str) -> None:
        super().__init__(
            f"a step to phase {to} is queued by {who}: wait until that command ends. If it was "
            "killed, or to take the step back: 'crossfade migrate cancel --why ...'"
        )
