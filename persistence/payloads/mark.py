"""The mark of a store: an object that identifies it.

A disk that is not mounted, or a setting that names another bucket, looks like an empty store. A
process that used it would write content to the wrong place, and report content as missing.
"""

from __future__ import annotations

from persistence.payloads.errors import PayloadOutage
from persistence.payloads.folder import MARK

__all__ = ["ARCHIVE_NAME", "STORE_NAME", "check_mark"]

STORE_NAME = "payload-store"
"""The name under which PostgreSQL stores the payload store's identity, beside those of the logs."""
ARCHIVE_NAME = "rows-archive"
"""The name under which PostgreSQL stores the identity of the store of archived rows."""

_SETTINGS = {STORE_NAME: "PAYLOAD_STORE", ARCHIVE_NAME: "ROWS_ARCHIVE_URL"}
_CONTENTS = {STORE_NAME: "payloads", ARCHIVE_NAME: "archived rows"}


def check_mark(found: str | None, known: str | None, *, name: str, address: str | None) -> None:
    """Check that a store's mark is the expected one.

    Args:
        found: the mark that it has, if any.
        known: the mark that PostgreSQL knows; ``None``: any mark will do.
        name: the name under which PostgreSQL knows it.
        address: the store's address in the setting.

    Raises:
        PayloadOutage: the mark is missing, or another one.
    """
    if found is not None and known in {None, found}:
        return
    what = _CONTENTS[name]
    copy = "To move payloads there, run 'crossfade payloads copy'. "
    raise PayloadOutage(
        f"{address} is not the store of this service's {what} (its "
        f"{MARK} is {'missing' if found is None else 'of another'}): is its disk mounted, "
        f"and {_SETTINGS[name]} right? {copy if name == STORE_NAME else ''}"
        f"If you moved the {what} there yourself, say so with 'crossfade migrate "
        f"forget-log {name} --why ...', and restart the processes"
    )
