"""The log under test, and the faults that the suite can cause in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import pytest

from transport.contract import Features, Transport

__all__ = ["Backend"]


@dataclass(frozen=True)
class Backend:
    """One empty log, and functions that cause faults in it.

    Only the first two fields are required. The others let the suite do things for which the
    contract has no call. A test that needs a field that you left out is skipped.
    """

    create: Callable[[], Transport]
    """Return a transport, not yet entered. All of them must be on the same log, as the transports
    of several processes are. It needs at least two partitions."""

    features: Features
    """The features that the transport promises. The suite tests each."""

    append_raw: Callable[[int, bytes], Awaitable[None]] | None = None
    """Append these bytes to a partition, as another program would."""

    join: Callable[[str], AbstractAsyncContextManager[object]] | None = None
    """Join a group of the messages as another program would, until the block ends. Leave it out if
    your server knows no members of groups."""

    stop: Callable[[], Awaitable[None]] | None = None
    """Stop the server, keeping its data."""

    start: Callable[[], Awaitable[None]] | None = None
    """Start the server again."""

    remove: Callable[[int], Awaitable[None]] | None = None
    """Delete a partition of the messages log with its records, while it is in use."""

    remove_group: Callable[[int, str], Awaitable[None]] | None = None
    """Delete a group of a partition, without its records, as an operator would."""

    create_other: Callable[[], Transport] | None = None
    """Return a transport, not yet entered, on another log of the same kind and server: its name
    has another number of partitions (``mylog@5``)."""

    patience: float = 20.0
    """Seconds within which everything that the contract promises must happen."""

    def need(self, *names: str) -> None:
        """Skip the test unless the backend or the features have all of ``names``.

        Args:
            names: fields of this class, or of ``Features``.
        """
        for name in names:
            has = getattr(self.features, name, None) or getattr(self, name, None)
            if not has:
                pytest.skip(f"this backend declares no {name!r}")
