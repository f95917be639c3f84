"""What stands between two phases."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Gate", "GateRedError", "Open"]


class GateRedError(Exception):
    """A step was refused for as long as the rehearsal was told to wait."""


class Gate(Protocol):
    """Asked before the processes are restarted to a phase, and told when all of them run it."""

    async def pass_to(self, phase: int) -> list[dict[str, Any]]:
        """Return what each gate said once all are green. Raises :class:`GateRedError`."""

    async def reached(self, phase: int) -> None:
        """Return once it is known that every process runs it. Raises :class:`GateRedError`."""


class Open:
    """No gate at all: the settings are changed by hand."""

    async def pass_to(self, phase: int) -> list[dict[str, Any]]:
        """Let everything pass."""
        del phase
        return []

    async def reached(self, phase: int) -> None:
        """Ask nobody."""
