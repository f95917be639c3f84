"""The four settings that choose the logs, and the phase of a migration that they amount to.

A migration leads from one log to another. The row of ``migration`` names the two. Without this
pair, phase numbers mean nothing: phase 5 of one migration is phase 0 of the next.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from transport.settings import TransportSettings

__all__ = ["FIRST_PAIR", "Choice", "LogPair", "adopted", "choice_of", "choices", "phase_of"]


class LogPair(msgspec.Struct, frozen=True):
    """The names of a migration's old and new log. ``new`` is ``None`` if none is planned.

    Args:
        old: the log of phase 0.
        new: the log of phase 5.
    """

    old: str
    new: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Both logs, or only the old one if there is no new one."""
        return (self.old,) if self.new is None else (self.old, self.new)

    def other(self, name: str) -> str | None:
        """Return the other log of the pair; ``None`` if ``name`` is neither."""
        return {self.old: self.new, self.new: self.old}.get(name)


FIRST_PAIR = LogPair(old="redis", new="kafka")
"""The migration of an installation that never planned another."""


class Choice(NamedTuple):
    """The log that is written, its shadow and the shadow's mode, and the log that is read."""

    transport: str
    shadow: str | None
    mode: str | None
    consume_from: str

    def environment(self) -> dict[str, str]:
        """Return the settings by variable name; a variable with an empty value has to be unset."""
        return {
            "TRANSPORT": self.transport,
            "TRANSPORT_SHADOW": self.shadow or "",
            "TRANSPORT_SHADOW_MODE": self.mode or "",
            "CONSUME_FROM": self.consume_from,
        }


def choices(pair: LogPair) -> tuple[Choice, ...]:
    """Return the settings of each phase of a migration, by number; one if nothing is planned.

    Each is safe beside the next and the one before, in a rolling restart.
    """
    old, new = pair.old, pair.new
    first = Choice(old, None, None, old)
    if new is None:
        return (first,)
    return (
        first,
        Choice(old, new, "async", old),
        Choice(old, new, "sync", old),
        Choice(old, new, "sync", new),
        Choice(new, old, "sync", new),
        Choice(new, None, None, new),
    )


def choice_of(settings: TransportSettings) -> Choice:
    """Pick the four settings. Without a shadow there is no mode."""
    shadow = settings.transport_shadow
    mode = settings.transport_shadow_mode if shadow else None
    return Choice(settings.transport, shadow, mode, settings.consumed)


def phase_of(choice: Choice, pair: LogPair) -> int | None:
    """Return the phase of ``pair`` with these settings; ``None`` if no phase has them."""
    phases = choices(pair)
    return phases.index(choice) if choice in phases else None


def adopted(choice: Choice) -> tuple[LogPair, int] | None:
    """Return the migration and the phase in which an installation's first process starts.

    ``None`` if no phase of any migration has the settings.
    """
    pairs = [FIRST_PAIR, LogPair(choice.transport, choice.shadow)]
    for pair in pairs:
        phase = phase_of(choice, pair)
        if phase is not None:
            return pair, phase
    return None
