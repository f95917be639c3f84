"""The reasons why a process must not write payloads, or must not treat a payload as missing.

They are texts for operators: each names the processes, the setting and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from persistence.fleet.payload_readers import PayloadReader
from persistence.payloads.moving import FALLBACK_SETTING
from transport.message.envelope import NEWEST_VERSION

__all__ = ["elsewhere", "silent", "unread"]

_WAY = "docs/payloads.md, 'Move to another store', has the steps"
_FORGET = "one that is gone for good is forgotten by 'crossfade migrate forget NAME --why ...'"


def unread(stores: Sequence[str], others: Sequence[PayloadReader]) -> str | None:
    """Return why others might not read this process's payloads; ``None`` if all can read them.

    Args:
        stores: The stores that this process reads; it writes to the first.
        others: The other processes.
    """
    written = stores[0]
    if outdated := [other for other in others if other.envelope < NEWEST_VERSION]:
        return (
            f"PAYLOAD_STORE is set while processes run that can't read payloads: "
            f"{_names(outdated)}. Restart them with this version first, PAYLOAD_STORE unset where "
            f"they accept messages; {_FORGET}"
        )
    # Processes without a store wait for one, and treat no payload as missing.
    if blind := [other for other in others if other.stores and written not in other.stores]:
        reads = ", ".join(
            f"{other.member} reads {' and '.join(other.stores or ())}" for other in blind
        )
        return (
            f"PAYLOAD_STORE={written} is not read by every process: {reads}. Their messages would "
            f"become dead letters (payload_missing). Set {FALLBACK_SETTING}={written} for them and "
            f"restart them first ({_WAY}); {_FORGET}"
        )
    if len(stores) > 1 and (unknown := silent(others)):
        return (
            f"{FALLBACK_SETTING}={stores[1]} is set, and it is not known which payload stores "
            f"{_names(unknown)} reads: its version does not say. Restart it with this version "
            f"first, without {FALLBACK_SETTING}; {_FORGET}"
        )
    return None


def elsewhere(stores: Sequence[str], others: Iterable[PayloadReader]) -> str | None:
    """Return why others' payloads may be in a store that this process doesn't read, or ``None``.

    Args:
        stores: The stores that this process reads; it writes to the first.
        others: The other processes.
    """
    lacking = {
        other.member: other.written
        for other in others
        if other.written is not None and other.written not in stores
    }
    if not lacking:
        return None
    writers = ", ".join(f"{member} writes to {store}" for member, store in lacking.items())
    store = next(iter(lacking.values()))
    return (
        f"payloads are written where this process does not read (PAYLOAD_STORE={stores[0]}): "
        f"{writers}. Set {FALLBACK_SETTING}={store} for this process ({_WAY}); {_FORGET}"
    )


def silent(others: Iterable[PayloadReader]) -> list[PayloadReader]:
    """Return the processes whose version does not report which stores they read."""
    return [other for other in others if other.stores is None]


def _names(processes: Iterable[PayloadReader]) -> str:
    return ", ".join(f"{process.member} ({process.version})" for process in processes)
