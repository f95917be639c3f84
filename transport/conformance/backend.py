"""The log that the author of a transport hands to the suite, and the faults it can be given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from transport.contract import Consumer, Features, Transport

__all__ = ["Backend"]


@dataclass(frozen=True)
class Backend:
    """One empty log, and what can be done to it.

    Only the first two are needed. The others let the suite do what the contract has no word for;
    a test that needs one you left out is skipped.
    """

    create: Callable[[], Transport]
    """Return a transport, not yet entered. All of them are on the same log, as the transports of
    several processes would be. At least two partitions, and a short lease, keep the tests quick."""

    features: Features
    """The promises of the transport. The suite tests each."""

    append_raw: Callable[[int, bytes], Awaitable[None]] | None = None
    """Append these bytes to a partition, as another program would."""

    silence: Callable[[Consumer], Awaitable[None]] | None = None
    """Have a consumer be heard of no more, as when its process is suspended: it keeps its claims
    and what it can do with them, but renews nothing."""

    stop: Callable[[], Awaitable[None]] | None = None
    """Stop the server, keeping its data."""

    start: Callable[[], Awaitable[None]] | None = None
    """Start it again."""

    remove: Callable[[int], Awaitable[None]] | None = None
    """Delete a partition of the messages log with its records, while it is used."""

    remove_group: Callable[[int, str], Awaitable[None]] | None = None
    """Delete a group of a partition, its records staying."""

    patience: float = 20.0
    """Seconds within which anything the contract promises must have happened."""

    def need(self, *names: str) -> None:
        """Skip the test unless the backend has, or the transport promises, all of ``names``.

        Args:
            names: fields of this class, or of ``Features``.
        """
        for name in names:
            has = getattr(self.features, name, None) or getattr(self, name, None)
            if not has:
                pytest.skip(f"this backend declares no {name!r}")
