"""A finished span in our own form, and the names that OpenTelemetry gives to its parts.

The names are those of the semantic conventions v1.44: messaging (development), HTTP and database
(stable). Attributes for which they have no name begin with ``crossfade.``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import msgspec

from transport.contract import LogLocation

__all__ = ["Attributes", "Endpoint", "Link", "OperationKind", "Record", "Span"]

Attributes = dict[str, str | int | bool]


class OperationKind(Enum):
    """OpenTelemetry's span kinds."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Link(msgspec.Struct, frozen=True, gc=False):
    """A reference to a related span."""

    trace_id: int
    span_id: int


class Span(msgspec.Struct, frozen=True):
    """One finished, sampled span. Times are nanoseconds since the epoch."""

    name: str
    kind: OperationKind
    trace_id: int
    span_id: int
    parent_id: int | None
    start: int
    end: int
    attributes: Attributes
    state: str | None = None
    remote: bool = False
    """Whether the parent belongs to another process."""
    links: Sequence[Link] = ()
    error: str | None = None
    """The value of ``error.type``, if it failed."""


Record = Callable[[Span], None]
"""Takes a finished span. Never waits, never raises."""


class Endpoint(msgspec.Struct, frozen=True):
    """A log's name, topics and address, as spans have them."""

    system: str
    location: LogLocation

    @property
    def messages(self) -> str:
        """The name of the messages' topic."""
        return self.location.messages

    @property
    def dead_letters(self) -> str:
        """The name of the dead letters' topic."""
        return self.location.dead_letters

    def attributes(self, operation: str, kind: str, destination: str) -> Attributes:
        """Return the attributes of every span about this log.

        Args:
            operation: ``messaging.operation.name``.
            kind: ``messaging.operation.type``.
            destination: The topic's name.
        """
        made: Attributes = {
            "messaging.system": self.system,
            "messaging.operation.name": operation,
            "messaging.operation.type": kind,
            "messaging.destination.name": destination,
            "server.address": self.location.address,
        }
        if self.location.port is not None:
            made["server.port"] = self.location.port
        return made

    def position(self, partition: int, offset: str) -> Attributes:
        """Return the attributes of a record's position, by its system's names."""
        made: Attributes = {"messaging.destination.partition.id": str(partition)}
        if self.location.numbered:
            made[f"messaging.{self.system}.offset"] = int(offset)
        elif offset:
            made["messaging.message.id"] = offset
        return made
