"""The ingress's memory of accepted messages: the digests of their bodies, by message id.

PostgreSQL answers a repeat once the message has a row. Until then only the log has the message, and
a log may remember no keys (Kafka), or only for a time (Redis). This memory answers for as long as
the row is missing. It has the last messages that this process accepted, and those that
``ingress.accept.unread_keys`` found in the log.

It also keeps that a row was seen, so that no later answer revokes ``persisted`` while PostgreSQL
does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from transport.contract import Remembered

__all__ = ["RecentKeys"]

_GENERATION = 100_000
_DIGEST = slice(0, 16)
_SEEN, _UNSEEN = b"\1", b"\0"  # whether the message's row was seen


class RecentKeys:
    """The last 100,000 messages at least, and 200,000 at most. Each takes 0.2 kB.

    Args:
        most: The number of messages after which the messages before them are forgotten.
    """

    def __init__(self, most: int = _GENERATION) -> None:
        self._most = most
        # Two generations: to remove single messages would cost more.
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._at, self._at_bytes = "", b""

    def among(self, message_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that are known."""
        young, old = self._young, self._old
        return {one for one in message_ids if one in young or one in old}

    def find(self, message_id: str) -> Remembered | None:
        """Return a message's first acceptance, without its offset; ``None`` if it is not known."""
        found = self._young.get(message_id) or self._old.get(message_id)
        if found is None:
            return None
        at, _, rest = found[1:].partition(b"\0")
        own = rest[_DIGEST.stop :].decode("utf-8", "surrogatepass")
        return Remembered(
            offset="",
            accepted_at=at.decode("utf-8", "surrogatepass"),
            fingerprint=rest[_DIGEST].hex(),
            correlation_id=own or message_id,
        )

    def has_row(self, message_id: str) -> bool:
        """Return whether the message's row was seen."""
        found = self._young.get(message_id) or self._old.get(message_id)
        return found is not None and found.startswith(_SEEN)

    def add(
        self,
        message_id: str,
        fingerprint: str,
        accepted_at: str,
        correlation_id: str,
        *,
        row: bool = False,
    ) -> None:
        """Remember a message's first acceptance.

        Args:
            message_id: The message's id.
            fingerprint: The digest of its body. A message without one is not remembered.
            accepted_at: The time of its first answer.
            correlation_id: Its correlation id.
            row: Whether its row was seen.
        """
        if not fingerprint:
            return
        if len(self._young) >= self._most:
            self._young, self._old = {}, self._young
        if accepted_at != self._at:  # all messages of a group commit have the same
            self._at, self._at_bytes = accepted_at, accepted_at.encode("utf-8", "surrogatepass")
        own = b""
        if correlation_id != message_id:
            own = correlation_id.encode("utf-8", "surrogatepass")
        self._young[message_id] = b"%b%b\0%b%b" % (
            _SEEN if row else _UNSEEN, self._at_bytes, bytes.fromhex(fingerprint), own,
        )  # fmt: skip

    def forget(self, message_id: str) -> None:
        """Forget a message that was erased or archived."""
        self._young.pop(message_id, None)
        self._old.pop(message_id, None)
