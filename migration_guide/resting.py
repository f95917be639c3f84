"""A migration at rest: one log is written and read, and no step is under way or queued.

Then the next one can be planned, and the log that was left behind can be retired.
"""

from __future__ import annotations

from migration_guide.errors import IncompleteCopy, NotAStep, StepQueued
from persistence.fleet.log_choice import Choice, LogPair, choices
from persistence.fleet.migration_state import MigrationState

__all__ = ["describe", "must_not_wait", "must_rest", "rests_on", "survivor"]


def rests_on(state: MigrationState) -> str:
    """Return the log that is written and read in the migration's phase."""
    return choices(state.pair)[state.phase].transport


def survivor(state: MigrationState, lost: str, *, accept_loss: bool = False) -> str:
    """Return the remaining log, if one of the migration's two is gone for good.

    Args:
        state: the migration's state.
        lost: the log that is gone.
        accept_loss: whether the other log may lack some of the acknowledged messages.

    Raises:
        IncompleteCopy: the other log may lack some.
        NotAStep: it has none.
        StepQueued: a step waits.
    """
    must_not_wait(state)
    left = state.pair.other(lost)
    # While a step is under way, some processes run one phase and some the other.
    used = [choices(state.pair)[number] for number in (state.phase, state.target)]
    if left is None or not any(left in (choice.transport, choice.shadow) for choice in used):
        raise NotAStep(
            f"the migration {describe(state.pair)} stands {_stands(state)}, where {lost} "
            "alone has the messages"
        )
    if not accept_loss and not all(_has_all(choice, left) for choice in used):
        raise IncompleteCopy(
            f"the migration {describe(state.pair)} stands {_stands(state)}, where {lost} "
            f"acknowledges messages that {left} may not have"
        )
    return left


def _has_all(choice: Choice, name: str) -> bool:
    """Return whether the log has each message before its acknowledgement."""
    return name == choice.transport or (name == choice.shadow and choice.mode == "sync")


def must_rest(state: MigrationState) -> None:
    """Refuse if more than one log is in use, or a step is under way or queued.

    Raises:
        NotAStep: the migration is not at its first or last phase.
        StepQueued: a step waits.
    """
    must_not_wait(state)
    if state.under_way or choices(state.pair)[state.phase].shadow is not None:
        raise NotAStep(
            f"the migration {describe(state.pair)} stands {_stands(state)}: this can be done where "
            "one log is written and read, at its first phase or its last"
        )


def must_not_wait(state: MigrationState) -> None:
    """Refuse if a step is queued, because every change removes it.

    Raises:
        StepQueued: a step waits.
    """
    if state.queued is not None:
        raise StepQueued(state.queued.to, state.queued.who)


def _stands(state: MigrationState) -> str:
    if state.under_way:
        return f"between phases {state.phase} and {state.target}"
    return f"at phase {state.phase}"


def describe(pair: LogPair) -> str:
    """Return the pair in words."""
    return f"of {pair.old}" if pair.new is None else f"from {pair.old} to {pair.new}"
