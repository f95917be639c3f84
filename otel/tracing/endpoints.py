"""The names of each log in spans, from its settings."""

from __future__ import annotations

from otel.tracing.span import Endpoint
from transport.registry import create
from transport.settings import TransportSettings

__all__ = ["Endpoints"]


class Endpoints(dict[str, Endpoint]):
    """The endpoint of each log, by the log's name; made when it is first asked for.

    A log that the settings no longer name has one, too: if it was used before, it is drained.
    """

    def __init__(self, settings: TransportSettings) -> None:
        super().__init__()
        self._settings = settings

    def __missing__(self, transport: str) -> Endpoint:
        log = create(transport, self._settings)
        made = self[transport] = Endpoint(log.system, log.location)
        return made
