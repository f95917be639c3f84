"""The payload store: whether it can be reached, and is the one that it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from compose.doctor.observation import Observation, bad, fine
from persistence.payloads.errors import PayloadError
from persistence.payloads.store import STORE_NAME, PayloadStore
from transport.patience import answer

__all__ = ["examine_payloads"]

_WITHIN = 10.0


async def examine_payloads(
    store: PayloadStore, address: str, *, known: Mapping[str, str]
) -> AsyncIterator[Observation]:
    """Yield what was found of the store.

    Args:
        store: The store.
        address: Where it is, for people.
        known: The identity of each log, and of the store, as PostgreSQL has them.
    """
    try:
        mark = await answer(store.mark(), within=_WITHIN)
    except (PayloadError, TimeoutError) as error:
        yield bad(
            "connection",
            str(error) or f"no answer within {_WITHIN:g} s",
            "see that PAYLOAD_STORE can be reached with these credentials: until it is, large "
            "messages are refused",
        )
        return
    yield fine("connection", address)
    recorded = known.get(STORE_NAME)
    if mark is None and recorded is None:
        yield fine("identity", "not used yet: the first process that starts marks it")
    elif mark != recorded and recorded is not None:
        yield bad(
            "identity",
            "without the mark of this database's store" if mark is None else "another store",
            "look whether a disk is not mounted, or PAYLOAD_STORE names another bucket: the "
            "content of messages is not there",
            promise=1,
        )
    else:
        yield fine("identity", "the same store as before")
