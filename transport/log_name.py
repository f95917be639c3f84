"""The name of a log: ``kind[.label][@partitions]``, such as ``redis``, ``redis@32``, ``kafka.eu``.

``kind`` is the transport, as it is registered (``transport.registry``). A ``label`` gives the log
settings of its own, so that it can be on another server: ``LOG_EU_KAFKA_BOOTSTRAP_SERVERS`` then
goes before ``KAFKA_BOOTSTRAP_SERVERS``. ``partitions`` is the log's number of partitions. It is
also in the names of its streams or topics, so that two logs with different numbers fit on one
server. If it is left out, the log has ``STREAM_PARTITIONS`` partitions, and names without a number:
``redis`` and ``redis@16`` are two logs.

A name means the same log for ever. Metrics, positions of rows, fences, gaps and reports use it.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from transport.errors import ConfigurationError

__all__ = ["MOST_PARTITIONS", "LogName"]

MOST_PARTITIONS = 4096
_NAME = re.compile(
    r"(?P<kind>[a-z][a-z0-9_-]{0,31})(\.(?P<label>[a-z0-9]{1,16}))?(@(?P<count>[1-9][0-9]{0,3}))?"
)


class LogName(NamedTuple):
    """The parts of a name; ``str()`` puts them together again."""

    kind: str
    label: str | None = None
    partitions: int | None = None

    @classmethod
    def parse(cls, text: str, *, variable: str = "TRANSPORT") -> Self:
        """Return the parts of a name.

        Args:
            text: the name.
            variable: the variable that has the name, for the error.

        Raises:
            ConfigurationError: ``text`` is no name of a log.
        """
        found = _NAME.fullmatch(text)
        count = int(found["count"]) if found and found["count"] else None
        if found is None or (count or 0) > MOST_PARTITIONS:
            raise ConfigurationError(
                f"{variable}={text!r} is not the name of a log; write a transport, then a label if "
                "the log has settings of its own, then its number of partitions if that is not "
                "STREAM_PARTITIONS: redis, redis@32, kafka.eu@32 (a label is of up to 16 of a-z "
                f"and 0-9, a number of partitions from 1 to {MOST_PARTITIONS})"
            )
        return cls(found["kind"], found["label"], count)

    def __str__(self) -> str:
        """Return the name."""
        label = f".{self.label}" if self.label else ""
        return f"{self.kind}{label}{self.suffix('@')}"

    def suffix(self, separator: str) -> str:
        """Return the end of the names of the log's streams or topics: ``@32``, or nothing."""
        return f"{separator}{self.partitions}" if self.partitions else ""
