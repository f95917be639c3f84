"""Removal of a group: its positions in Redis, and the accounts of its losses."""

from __future__ import annotations

from collections.abc import Sequence

from transport.redis.client.functions import Functions
from transport.redis.connection.errors import translate
from transport.redis.keys import TopicKeys

__all__ = ["forget_group"]


async def forget_group(functions: Functions, logs: Sequence[TopicKeys], group: str) -> None:
    """Forget ``group`` in each of ``logs``; see ``transport.contract.Transport.forget_group``."""
    replies = await functions.exchange(
        [
            functions.command("forget", (stream, log.accounts(partition, group)), group)
            for log in logs
            for partition, stream in enumerate(log.streams)
        ]
    )
    for reply in replies:
        if isinstance(reply, Exception):
            raise translate(reply)
