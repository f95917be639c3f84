"""Every error of the payload store, each with its remedy.

    PersistenceError
    └── PayloadError
        ├── PayloadOutage     the store can't do it now: pause, back off, retry for ever
        ├── PayloadMissing    the store works and has no such object
        │   └── PayloadUnreadable   ... or can't give this one object to anybody
        └── PayloadCorrupt    the object is not the content that the message names

``persistence.payloads.translation`` makes the first three from the client's errors, in one place.
"""

from __future__ import annotations

from persistence.errors import PersistenceError

__all__ = [
    "PayloadCorrupt",
    "PayloadError",
    "PayloadMissing",
    "PayloadOutage",
    "PayloadUnreadable",
]


class PayloadError(PersistenceError):
    """Root of the tree. Catch it to handle any failure of the payload store."""


class PayloadOutage(PayloadError):  # noqa: N818 - a state of the world, not a mistake
    """The store can't be reached, refuses us, or can't do this now. A write may have happened.

    A missing permission is an outage too: an operator grants it, and no message is at fault.

    Remedy: retry the same. The text names the state that an operator has to look at.
    """


class PayloadMissing(PayloadError):  # noqa: N818 - a verdict on one object
    """The store works, and has no object under this key.

    Remedy: try again a few times, then set the message apart.
    """


class PayloadUnreadable(PayloadMissing):
    """The store works, but can't return this object: its key is too long, or it is archived.

    Remedy: as for ``PayloadMissing``.
    """


class PayloadCorrupt(PayloadError):  # noqa: N818 - a verdict on one object
    """The object has another length or SHA-256 than the message says.

    Remedy: try again a few times, in case it was damaged on the way; then set the message apart.
    """
