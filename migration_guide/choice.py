"""The four settings that choose the logs, and which phase they amount to."""

from __future__ import annotations

from typing import NamedTuple

from transport.settings import TransportSettings

__all__ = ["CHOICES", "PAIR", "Choice", "LogPair", "choice_of", "choices", "phase_of"]


class LogPair(NamedTuple):
    """The logs that a migration leads from and to, by name."""

    old: str
    new: str

    def other(self, name: str) -> str | None:
        """Return the one that is not ``name``; ``None`` if ``name`` is neither."""
        return {self.old: self.new, self.new: self.old}.get(name)


PAIR = LogPair(old="redis", new="kafka")
"""The only place that says which logs are crossfaded."""


class Choice(NamedTuple):
    """The log that is written, its shadow and the shadow's mode, and the log that is read."""

    transport: str
    shadow: str | None
    mode: str | None
    consume_from: str

    def environment(self) -> dict[str, str]:
        """Return the settings by variable name; empty ones are to be unset."""
        return {
            "TRANSPORT": self.transport,
            "TRANSPORT_SHADOW": self.shadow or "",
            "TRANSPORT_SHADOW_MODE": self.mode or "",
            "CONSUME_FROM": self.consume_from,
        }


def choices(pair: LogPair) -> tuple[Choice, ...]:
    """Return the settings of each phase of a migration, by number.

    Each is safe beside the next and the one before, in a rolling restart.
    """
    old, new = pair
    return (
        Choice(old, None, None, old),
        Choice(old, new, "async", old),
        Choice(old, new, "sync", old),
        Choice(old, new, "sync", new),
        Choice(new, old, "sync", new),
        Choice(new, None, None, new),
    )


CHOICES = choices(PAIR)
"""The settings of each phase, by number."""


def choice_of(settings: TransportSettings) -> Choice:
    """Pick the four settings. Without a shadow there is no mode."""
    shadow = settings.transport_shadow
    mode = settings.transport_shadow_mode if shadow else None
    return Choice(settings.transport, shadow, mode, settings.consumed)


def phase_of(settings: TransportSettings) -> int | None:
    """Return the number of the phase that ``settings`` amount to, ``None`` if they are none."""
    choice = choice_of(settings)
    return CHOICES.index(choice) if choice in CHOICES else None
