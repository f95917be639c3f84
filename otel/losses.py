"""Records that left a log unread, and when this process noticed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from transport.contract import Progress

__all__ = ["Loss", "Losses"]


class Loss(msgspec.Struct, frozen=True):
    """``lost`` records of one log, ever, as far as this process knows.

    ``seconds`` is how long ago this process saw the count rise; ``None`` if it never did, because
    the loss is older than the process.
    """

    transport: str
    lost: int
    seconds: float | None


class _Log:
    """The last figure of each partition of one log."""

    def __init__(self) -> None:
        self.lost: dict[int, int] = {}
        self.forgotten = 0  # losses that the log no longer counts
        self.rose: float | None = None


class Losses:
    """Remembers each log's count of lost records, and when it last rose.

    ``clock`` returns seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logs: dict[str, _Log] = {}

    def note(self, transport: str, progress: Sequence[Progress]) -> None:
        """Read the losses from a log's progress in all its partitions.

        A count that fell was started anew, with the log's data or with its group: its present value
        is a loss too, beside the one before.
        """
        log = self._logs.setdefault(transport, _Log())
        for part in progress:
            if part.unavailable:
                continue
            before = log.lost.get(part.partition)
            if before is not None and (part.lost > before or 0 < part.lost < before):
                log.rose = self._clock()
            if before is not None and part.lost < before:
                log.forgotten += before
            log.lost[part.partition] = part.lost

    def all(self) -> list[Loss]:
        """Return each log that lost records, in the order of their names."""
        now = self._clock()
        return [
            Loss(name, lost, None if log.rose is None else now - log.rose)
            for name, log in sorted(self._logs.items())
            if (lost := log.forgotten + sum(log.lost.values()))
        ]
