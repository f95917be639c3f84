"""The servers in ``DATABASE_URL``, and connecting to the one that takes writes.

Several may be named, as for libpq: ``postgresql://user@one:5432,two:5432/name``. One is the
primary, the others follow it, and a failover makes another one the primary.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qsl
from weakref import WeakSet

import asyncpg
import structlog

from persistence.database.fitness import (
    READS_OLD,
    Fitness,
    Pooling,
    assumed,
    end_if_given_up,
    examine_session,
    reads_from_a_standby,
    set_in_session,
    unset_parameters,
)
from persistence.database.hang import HangWatch
from persistence.database.replaced import TIMELINE, PrimaryTimeline, ReplacementWatch, successor
from persistence.database.transaction import ServerTransaction
from persistence.database_url import parts_of, place_of, urls_of
from persistence.errors import Crowded, Outage
from transport.errors import ConfigurationError
from transport.secret_file import SecretFile

__all__ = ["ServerConnection", "Servers"]

_log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_REFUSALS = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # not one that takes writes
)
_ATTRIBUTES = "target_session_attrs"
_TAKE_WRITES = ("read-write", "primary")
_LEAVE_SECONDS = 1.0
"""At most this often: a server that stays read-only must not cost a session a statement."""


class ServerConnection(asyncpg.Connection):
    """A connection with its servers, and the pool's generation when it was made.

    ``checked`` has the names of checks that hold for its life.
    """

    servers: Servers
    generation: int
    url: str
    pooling: Pooling
    checked: set[str]
    _transport: asyncio.BaseTransport  # asyncpg's own; its stubs leave it out

    def transaction(self, **options: Any) -> ServerTransaction:
        """Return a transaction or, within one, a savepoint."""
        return ServerTransaction(self, **options)

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate, in DER; ``None`` if the connection is not encrypted."""
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return tls.getpeercert(binary_form=True) if tls is not None else None


class Servers:
    """Connects to the server that takes writes; tries the server of the last connection first.

    asyncpg also accepts several hosts. But it has one time limit for all of them, which a first
    host that does not answer uses up; and it takes a standby unless ``target_session_attrs`` is
    set.

    ``may_lag``: whether reads may come from a standby behind a pooler.
    """

    def __init__(
        self,
        url: str,
        *,
        direct: str | None = None,
        setting: str = "DATABASE_URL",
        password: SecretFile | None = None,
        may_lag: bool = False,
    ) -> None:
        self._urls = urls_of(url)
        self._may_lag = may_lag
        self._setting = setting
        self.direct = (
            Servers(direct, setting="DATABASE_DIRECT_URL", password=password) if direct else None
        )
        """The same servers without the pooler, for code that needs a session of its own."""
        self._fitness: dict[str, Fitness] = {}
        is_one = len(self._urls) == 1
        wanted = dict(parse_qsl(parts_of(url).query)).get(_ATTRIBUTES)
        self._options: dict[str, Any] = {} if is_one or wanted else {_ATTRIBUTES: "read-write"}
        if password is not None:
            self._options["password"] = partial(_present, password)  # asked for each connection
        self._left_at = float("-inf")
        self._sessions: WeakSet[ServerConnection] = WeakSet()
        self._asked_with: dict[str, Any] = {}
        self.watch = None if is_one else HangWatch(self._leave_if_it_hangs)
        self._replacement_watch = (
            ReplacementWatch(self._leave_if_replaced, self._is_used)
            if not is_one and (wanted or _TAKE_WRITES[0]) in _TAKE_WRITES
            else None
        )
        self.generation = 0
        """How often the pool's connections were given up; older connections must not be kept."""

    def leave(self) -> bool:
        """Give up the present connections; return ``False`` if that was done a moment ago."""
        now = asyncio.get_running_loop().time()
        if now - self._left_at < _LEAVE_SECONDS:
            return False
        self._left_at = now
        self.generation += 1
        return True

    async def connect(
        self,
        _url: str | None = None,
        *,
        timeout: float = _CONNECT_SECONDS,  # noqa: ASYNC109 - asyncpg's own
        **options: Any,
    ) -> ServerConnection:
        """Return a new connection. ``timeout`` is the total in seconds; each server has a share.

        (``_url`` exists because a pool passes it.)

        Raises:
            Outage: none of several servers takes writes now; the text has each server's answer.
            UnfitDatabase: the server, or a pooler in front of it, lacks what is needed.
            Exception: asyncpg's error, if one server is named.
        """
        generation = self.generation
        options |= self._options | {"connection_class": ServerConnection}
        self._asked_with = options
        session, url = await self._connect(timeout, options)
        session.servers, session.generation, session.url = self, generation, url
        session.checked = set()
        self._sessions.add(session)
        try:
            await self._examine(session, options)
            if session.pooling is Pooling.NONE:
                await end_if_given_up(session)
        except BaseException:
            session.terminate()
            raise
        if self._replacement_watch is not None:
            self._replacement_watch.begin()
        return session

    async def replacement(self, url: str) -> str | None:
        """Return the server that replaced that of ``url``, which takes writes all the same.

        ``None`` if none did, or if that is not known.
        """
        if self._replacement_watch is None:
            return None
        asked = list(self._urls)
        lines = await asyncio.gather(*(self._timeline(url) for url in asked))
        found = {url: line for url, line in zip(asked, lines, strict=True) if line is not None}
        return successor(url, found)

    async def _examine(self, session: ServerConnection, options: dict[str, Any]) -> None:
        """Refuse an unfit server; set the parameters that the session did not begin with."""
        known = self._fitness.get(session.url)
        if known is None or known.why is not None:
            with suppress(asyncpg.UndefinedObjectError):  # another engine, which is named below
                await set_in_session(session, assumed(session))
            alike = options | {"connection_class": asyncpg.Connection}

            async def another() -> asyncpg.Connection[Any]:
                made: asyncpg.Connection[Any] = await asyncpg.connect(
                    session.url, timeout=_LOOK_SECONDS, **alike
                )
                return made

            known = await examine_session(session, another, has_direct=self.direct is not None)
            self._fitness[session.url] = known
            if known.pooling is not Pooling.NONE and known.why is None:
                await self._tell(session, known.pooling, options.get("server_settings") or {})
        elif known.pooling is not Pooling.TRANSACTION:  # there, another client would have them
            await set_in_session(session, assumed(session))
        # Each session is asked: a pooler may choose another server for each, and is not always
        # recognized.
        if known.why is None and not self._may_lag and await reads_from_a_standby(session):
            known = self._fitness[session.url] = Fitness(known.pooling, READS_OLD)
        known.must_do(self._setting)
        session.pooling = known.pooling
        settings: dict[str, str] = options.get("server_settings") or {}
        if known.pooling is Pooling.SESSION and settings:
            await set_in_session(session, settings)

    async def _tell(
        self, session: ServerConnection, pooling: Pooling, settings: dict[str, str]
    ) -> None:
        _log.info("PostgreSQL is behind a pooler", mode=pooling.value)
        if pooling is not Pooling.TRANSACTION:
            return
        if remedy := await unset_parameters(session, settings):
            _log.warning(
                "The pooler keeps nothing that a session sets: set it for the user, then have the "
                "pooler connect anew (pgbouncer: RECONNECT)",
                remedy=remedy,
            )

    async def _connect(
        self, seconds: float, options: dict[str, Any]
    ) -> tuple[ServerConnection, str]:
        if len(self._urls) == 1:
            url = self._urls[0]
            return await asyncpg.connect(url, timeout=seconds, **options), url
        answers, is_crowded = [], False
        for url in self._urls:
            try:
                session = await asyncpg.connect(url, timeout=seconds / len(self._urls), **options)
            except _REFUSALS as error:
                is_crowded |= isinstance(error, asyncpg.TooManyConnectionsError)
                answers.append(f"{place_of(url)}: {_answer(error)}")
            else:
                self._begin_with(url)
                return session, url
        kind = Crowded if is_crowded else Outage
        raise kind(f"no server in {self._setting} takes writes ({'; '.join(answers)})")

    async def _leave_if_it_hangs(self) -> None:
        """End the sessions of the server in use if it gives no answer and another takes writes."""
        hung, others = self._urls[0], self._urls[1:]
        if await self._takes_writes(hung):
            return
        found = await asyncio.gather(*(self._takes_writes(url) for url in others))
        primary = next((url for url, takes in zip(others, found, strict=True) if takes), None)
        if primary is None or self._urls[0] != hung:
            return
        _log.warning(
            "PostgreSQL gives no answer and was replaced: leaving it", server=place_of(hung)
        )
        self._move(hung, primary)

    async def _leave_if_replaced(self) -> None:
        """End the sessions of the server in use if another one was promoted in its place."""
        old = self._urls[0]
        new = await self.replacement(old)
        if new is None or self._urls[0] != old:
            return
        _log.error(
            "PostgreSQL was replaced, and goes on taking writes: leaving it. Its rows that the "
            "other server lacks come from the log. Stop it",
            server=place_of(old),
            replaced_by=place_of(new),
        )
        self._move(old, new)

    def _move(self, old: str, new: str) -> None:
        """End the sessions of one server, and begin with another one."""
        self._begin_with(new)
        self.generation += 1
        for session in list(self._sessions):
            if session.url == old:
                session.terminate()

    def _is_used(self) -> bool:
        return any(not session.is_closed() for session in self._sessions)

    async def _timeline(self, url: str) -> PrimaryTimeline | None:
        """Return what a server writes; ``None`` if it takes no writes, or if it doesn't tell."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                session = await self._look_at(url)
                try:
                    row = await session.fetchrow(TIMELINE)
                    assert row is not None
                    return PrimaryTimeline(*row)
                finally:
                    session.terminate()
        except _REFUSALS:
            return None

    async def _takes_writes(self, url: str) -> bool:
        try:
            session = await self._look_at(url)
        except _REFUSALS:
            return False
        session.terminate()
        return True

    async def _look_at(self, url: str) -> asyncpg.Connection[Any]:
        options = self._asked_with | {"connection_class": asyncpg.Connection}
        session: asyncpg.Connection[Any] = await asyncpg.connect(
            url, timeout=_LOOK_SECONDS, **options
        )
        return session

    def _begin_with(self, url: str) -> None:
        if url != self._urls[0]:
            self._urls = [url, *(other for other in self._urls if other != url)]
            _log.info("Another PostgreSQL server takes the writes", server=place_of(url))


def _answer(error: Exception) -> str:
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "it is a standby, or read-only"
    return f"{type(error).__name__} {error}".rstrip()


def _present(password: SecretFile) -> str:
    try:
        return password.read()
    except ConfigurationError as error:
        raise Outage(str(error)) from error
