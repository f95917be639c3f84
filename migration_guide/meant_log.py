"""Check that the settings of a command lead to the logs that the processes use.

A command has settings of its own. With another address they lead to another log of the same name,
perhaps of another environment, and what is found there proves nothing.
"""

from __future__ import annotations

from persistence.database.pool import Pool
from persistence.fleet.log_identities import known_identities
from transport.contract import Transport
from transport.errors import ConfigurationError

__all__ = ["WrongLogError", "must_be_meant"]


class WrongLogError(ConfigurationError):
    """A name leads to another log here than the one that it means to the processes."""


async def must_be_meant(log: Transport, pool: Pool) -> None:
    """Return if the open log is the one that its name means, or no process has met one yet.

    Raises:
        WrongLogError: it is another log.
        TransportUnavailable: the log can't be asked now.
        Outage: PostgreSQL can't answer now.
    """
    known = (await known_identities(pool)).get(log.name)
    if known is not None and await log.identity() != known:
        raise WrongLogError(
            f"the settings here lead to another log than the {log.name} of the processes: compare "
            "their addresses of it, or, if the log was emptied or made anew, say so with "
            f"'crossfade migrate forget-log {log.name} --why ...'"
        )
