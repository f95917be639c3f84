"""Decide whether a message's row may answer a repeat.

The answer is an acknowledgement, and PostgreSQL may lose the row afterwards. So the message has to
be where a worker finds it again before it inserts any newer message of the conversation.
"""

from __future__ import annotations

from collections.abc import Iterable

from persistence.chain.known_chain import KnownChain
from transport.contract import Transport

__all__ = ["KeptRows"]


class KeptRows:
    """The rows whose records the chain leads to.

    Args:
        chain: The chain as this process knows it. An older one allows fewer answers.
        logs: The logs of this process.
        mirrors: Whether this process writes two logs before it acknowledges.
    """

    def __init__(self, chain: KnownChain, logs: Iterable[Transport], *, mirrors: bool) -> None:
        self._chain = chain
        self._keys = {log.name: log.sort_key for log in logs}
        self.mirrors = mirrors

    def has(self, log: str, partition: int, offset: str) -> bool:
        """Return whether the chain leads to the record of a row; true if it has no record."""
        if not offset:
            return True
        key = self._keys.get(log)
        return key is not None and self._chain.now.leads_to(
            log, partition, offset, key, mirrors=self.mirrors
        )
