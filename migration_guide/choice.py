"""The four settings that choose the logs, and which phase they amount to."""

from __future__ import annotations

from typing import NamedTuple

from transport.settings import TransportSettings

__all__ = ["CHOICES", "NEW", "OLD", "Choice", "choice_of", "phase_of"]

OLD = "redis"
NEW = "kafka"


class Choice(NamedTuple):
    """Which log is written first, which after it and how, and which one is read."""

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


CHOICES: tuple[Choice, ...] = (
    Choice(OLD, None, None, OLD),
    Choice(OLD, NEW, "async", OLD),
    Choice(OLD, NEW, "sync", OLD),
    Choice(OLD, NEW, "sync", NEW),
    Choice(NEW, OLD, "sync", NEW),
    Choice(NEW, None, None, NEW),
)
"""By number of the phase. Each is safe beside the next and the one before, in a rolling restart."""


def choice_of(settings: TransportSettings) -> Choice:
    """Return what ``settings`` choose. The mode says nothing where there is no shadow."""
    shadow = settings.transport_shadow
    mode = settings.transport_shadow_mode if shadow else None
    return Choice(settings.transport, shadow, mode, settings.consumed)


def phase_of(settings: TransportSettings) -> int | None:
    """Return the number of the phase that ``settings`` amount to, ``None`` if they are none."""
    choice = choice_of(settings)
    return CHOICES.index(choice) if choice in CHOICES else None
