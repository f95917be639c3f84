"""Where a migration rests: one log is written and read, and no step is under way or queued.

There, the next one can be planned, and the log that was left behind can be retired.
"""

from __future__ import annotations

from migration_guide.errors import NotAStep, StepQueued
from persistence.fleet.log_choice import LogPair, choices
from persistence.fleet.migration_state import MigrationState

__all__ = ["describe", "must_not_wait", "must_rest", "rests_on", "survivor"]


def rests_on(state: MigrationState) -> str:
    """Return the log that is written and read in the phase that the migration stands at."""
    return choices(state.pair)[state.phase].transport


def survivor(state: MigrationState, lost: str) -> str:
    """Return the log that is left where one of the migration's two is gone for good.

    Raises:
        NotAStep: the other one is not known to have the messages. StepQueued: a step waits.
    """
    must_not_wait(state)
    left = [name for name in state.pair.names if name != lost]
    reached = choices(state.pair)[state.phase]
    if not left or left[0] not in (reached.transport, reached.shadow):
        raise NotAStep(
            f"the migration {describe(state.pair)} stands at phase {state.phase}, where {lost} "
            "alone has the messages"
        )
    return left[0]


def must_rest(state: MigrationState) -> None:
    """Refuse where more than one log is in use, or a step is under way or queued.

    Raises:
        NotAStep: the migration does not stand at its first or last phase. StepQueued: a step waits.
    """
    must_not_wait(state)
    if state.under_way or choices(state.pair)[state.phase].shadow is not None:
        stands = (
            f"between phases {state.phase} and {state.target}"
            if state.under_way
            else (f"at phase {state.phase}")
        )
        raise NotAStep(
            f"the migration {describe(state.pair)} stands {stands}: this can be done where "
            "one log is written and read, at its first phase or its last"
        )


def must_not_wait(state: MigrationState) -> None:
    """Refuse where a step is queued: every change takes it away.

    Raises:
        StepQueued: a step waits.
    """
    if state.queued is not None:
        raise StepQueued(state.queued.to, state.queued.who)


def describe(pair: LogPair) -> str:
    """Return the pair in words."""
    return f"of {pair.old}" if pair.new is None else f"from {pair.old} to {pair.new}"
