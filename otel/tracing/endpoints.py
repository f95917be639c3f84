"""The names of each log in spans, from its settings."""

from __future__ import annotations

from otel.tracing.span import Endpoint
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Endpoints"]


class Endpoints(dict[str, Endpoint]):
    """The names of each log by the log's name; also of one that the settings don't mention.

    (A log that was used before is drained although nothing names it any more.)
    """

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__()
        self._settings = settings

    def __missing__(self, transport: str) -> Endpoint:
        log = create(transport, self._settings)
        made = self[transport] = Endpoint(log.system, log.location)
        return made
