"""Checks of what only some messages and pages need: the payload store, and the read server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ingress.console.views import Sentence
from persistence.database.read_pool import ReadPool
from persistence.payloads.store import PayloadStore

__all__ = ["Check", "payloads_check", "reads_check"]

Check = Callable[[float], Awaitable[Sentence | None]]
"""Asks one server, for so many seconds at most; returns a sentence if it can't be used."""


def payloads_check(store: PayloadStore) -> Check:
    """Return the check of a payload store."""

    async def check(within: float) -> Sentence | None:
        why = await store.trouble(within=within)
        if why is None:
            return None
        return Sentence(
            level="alarm",
            text=f"The payload store ({store.settings.payload_store}) can't be used: "
            f"{why.rstrip('.')}. Large messages are answered 503, and those in the log wait; small "
            "ones are accepted and persisted.",
            next="Bring the payload store back, or correct PAYLOAD_STORE and its credentials: "
            "`crossfade doctor` says what is wrong there. Processes go on by themselves.",
        )

    return check


def reads_check(reads: ReadPool) -> Check:
    """Return the check of the server that pages are read from."""

    async def check(within: float) -> Sentence | None:
        why = await reads.trouble(within=within)
        if why is None:
            return None
        return Sentence(
            level="warning",
            text=f"The database of reads can't be used: {why.rstrip('.')}. Pages and the console's "
            "search come from DATABASE_URL, two at once.",
            next="Start that server again, or correct DATABASE_READ_URL, or unset it.",
        )

    return check
