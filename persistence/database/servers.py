"""The servers that ``DATABASE_URL`` names, and connecting to the one that takes writes.

Several may be named, as libpq writes them: ``postgresql://user@one:5432,two:5432/name``. One is the
primary, the others follow it, and after a failover it is another one.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import structlog

from persistence.errors import Outage

__all__ = ["ServerConnection", "Servers", "urls_of"]

_log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0
_ATTRIBUTES = "target_session_attrs"
_LEAVE_SECONDS = 1.0
"""Not more often: a server that stays read-only must not pay a new session for each statement."""


class ServerConnection(asyncpg.Connection):
    """A connection that knows which servers it was made for, and before which failover."""

    servers: Servers
    generation: int


class Servers:
    """Connects to the server that takes writes, beginning with the one that did the last time.

    asyncpg can be given several hosts too. It asks them within one time limit, which a first host
    that does not answer uses up; and it takes a standby if ``target_session_attrs`` is not set.
    """

    def __init__(self, url: str) -> None:
        self._urls = urls_of(url)
        named = len(self._urls) == 1 or f"{_ATTRIBUTES}=" in urlsplit(url).query
        self._options = {} if named else {_ATTRIBUTES: "read-write"}
        self._left_at = float("-inf")
        self.generation = 0
        """How often the connections of the pool were given up; older ones must not be kept."""

    def leave(self) -> bool:
        """Give up the connections that there are; return False if they were a moment ago."""
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
        """Return a new connection. ``timeout`` is in seconds, in all; each server has a share.

        (``_url`` is there because a pool passes it.)

        Raises:
            Outage: none of several servers takes writes now; the text has each one's answer.
            Exception: what asyncpg raises, where one server is named.
        """
        generation = self.generation
        options |= self._options | {"connection_class": ServerConnection}
        session: ServerConnection = await self._connect(timeout, options)
        session.servers, session.generation = self, generation
        return session

    async def _connect(self, seconds: float, options: dict[str, Any]) -> Any:
        if len(self._urls) == 1:
            return await asyncpg.connect(self._urls[0], timeout=seconds, **options)
        answers = []
        for url in self._urls:
            try:
                session = await asyncpg.connect(url, timeout=seconds / len(self._urls), **options)
            except (
                OSError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,  # not one that takes writes
            ) as error:
                answers.append(f"{_place(url)}: {type(error).__name__} {error}".rstrip())
            else:
                self._begin_with(url)
                return session
        raise Outage(f"no server in DATABASE_URL takes writes ({'; '.join(answers)})")

    def _begin_with(self, url: str) -> None:
        if url != self._urls[0]:
            self._urls = [url, *(other for other in self._urls if other != url)]
            _log.info("Another PostgreSQL server takes the writes", server=_place(url))


def urls_of(url: str) -> list[str]:
    """Return one address for each server that ``url`` names, in its order."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," in hosts:
        return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]
    query = dict(parse_qsl(parts.query))
    named = query.get("host", "").split(",")
    if len(named) == 1:
        return [url]
    ports = query.get("port", "").split(",")
    ports = ports * len(named) if len(ports) == 1 else ports
    rest = f"{parts.scheme}://{parts.netloc}{parts.path}"  # urlunsplit leaves out an empty netloc
    return [
        f"{rest}?{urlencode(query | {'host': host, 'port': port})}"
        for host, port in zip(named, ports, strict=False)
    ]


def _place(url: str) -> str:
    """Return host and port of an address, without its password."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    return parts.netloc.rpartition("@")[2] or f"{query.get('host')}:{query.get('port')}"
