"""A transaction that asks nothing more of a connection which was given up."""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

import asyncpg
from asyncpg.transaction import Transaction

__all__ = ["ServerTransaction"]


class ServerTransaction(Transaction):
    """asyncpg's, but after a time limit or a cancellation the connection is closed.

    asyncpg would first wait for the end of the statement, to send ROLLBACK, for as long as a
    statement may take. A server that hangs or cannot be reached gives no answer. PostgreSQL rolls
    back when it finds the connection closed.

    A savepoint is asyncpg's: its caller may go on with the transaction around it.
    """

    def __init__(
        self,
        session: asyncpg.Connection[Any],
        *,
        isolation: Any = None,
        readonly: bool = False,
        deferrable: bool = False,
    ) -> None:
        super().__init__(session, isolation, readonly, deferrable)
        self._session = session
        self._is_savepoint = session.is_in_transaction()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        """End the transaction. An error of the block is raised as it is."""
        if isinstance(error, TimeoutError | CancelledError) and not self._is_savepoint:
            self._session.terminate()
        # asyncpg would refuse to roll back over a closed connection, with an error of its own.
        if error is None or not self._session.is_closed():
            await super().__aexit__(kind, error, trace)
