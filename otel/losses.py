"""Records that left a log unread: how many, how many were put back, and when it last happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec

from transport.contract import Progress

__all__ = ["Loss", "Losses", "loss_of"]


class Loss(msgspec.Struct, frozen=True, rename="camel"):
    """The records that one log ever lost, as far as is known.

    ``seconds`` is the time since the latest loss; ``None`` if that is unknown. ``put_back`` of the
    lost records were appended again. ``is_uncounted``: more than ``lost`` may be gone, and it is
    unknown how many.
    """

    transport: str
    lost: int
    seconds: float | None = None
    put_back: int = 0
    is_uncounted: bool = False

    @property
    def gone(self) -> int:
        """How many of the lost records were not put back."""
        return max(0, self.lost - self.put_back)

    @property
    def is_healed(self) -> bool:
        """Whether every lost record was put back."""
        return not self.gone and not self.is_uncounted


def loss_of(transport: str, progress: Sequence[Progress]) -> Loss | None:
    """Return the losses in a log's progress in all its partitions; ``None`` if there are none."""
    lost = sum(part.lost for part in progress)
    is_uncounted = any(part.lost_uncounted for part in progress)
    if not lost and not is_uncounted:
        return None
    times = [part.lost_at for part in progress if part.lost_at is not None]
    return Loss(
        transport,
        lost,
        seconds=max(0.0, time.time() - max(times)) if times else None,
        # In each partition, for what one has too many does not make up for what another lacks.
        put_back=sum(min(part.lost, part.put_back) for part in progress),
        is_uncounted=is_uncounted,
    )


class _Log:
    """The last figure of each partition of one log."""

    def __init__(self) -> None:
        self.last: dict[int, Progress] = {}
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
            before = log.last.get(part.partition)
            if before is not None and (part.lost > before.lost or 0 < part.lost < before.lost):
                log.rose = self._clock()
            if before is not None and part.lost < before.lost:
                log.forgotten += max(0, before.lost - before.put_back)
            log.last[part.partition] = part

    def all(self) -> list[Loss]:
        """Return each log that lost records, in the order of their names.

        The time is the log's; if the log keeps none, it is when this process saw the count rise.
        """
        return [loss for name, log in sorted(self._logs.items()) if (loss := self._loss(name, log))]

    def _loss(self, name: str, log: _Log) -> Loss | None:
        rose = None if log.rose is None else self._clock() - log.rose
        loss = loss_of(name, list(log.last.values())) or Loss(name, 0)
        if not loss.lost + log.forgotten and not loss.is_uncounted:
            return None
        return msgspec.structs.replace(
            loss,
            lost=loss.lost + log.forgotten,
            seconds=rose if loss.seconds is None else loss.seconds,
        )
