"""``REDIS_URL``: the address of a Redis in one line, instead of one setting for each part.

========================================================  ========================================
``redis://user:password@host:6379/1``                     one server, database 1
``rediss://host``                                         the same, over TLS
``redis://host1,host2,host3:6379/0``                      a cluster, by any of its servers
``redis+sentinel://host1,host2:26379/mymaster/1``         the primary ``mymaster``, by sentinels
``rediss+sentinel://host1,host2/mymaster``                the same, over TLS, sentinels included
========================================================  ========================================

Parts that it leaves out come from their own settings.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

__all__ = ["RedisUrl", "masked_url"]

_SHAPE = re.compile(
    r"(?P<scheme>rediss?(?:\+sentinel)?)://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?"
    r"(?P<servers>[^@/?#]+)(?P<path>/[^?#]*)?"
)
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]\s,]+)(?::(?P<port>\d{1,5}))?")
_PORT, _SENTINEL_PORT, _LAST_PORT = 6379, 26379, 65535
_FORMS = (
    "write redis://host:6379/1, rediss:// for TLS, or redis+sentinel://host1,host2/master; encode "
    "other characters of a user or password as in %40"
)


class RedisUrl(msgspec.Struct, frozen=True):
    """The parts of the URL; ``None`` for each part that it leaves out.

    Args:
        servers: host and port of the server, of each sentinel, or of some servers of a cluster.
        master: the sentinels' name of the primary; ``None`` if there are no sentinels.
    """

    servers: tuple[tuple[str, int], ...]
    tls: bool = False
    master: str | None = None
    database: int | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"RedisUrl({self.servers}, master={self.master})"

    def over(self, other: RedisUrl) -> RedisUrl:
        """Return these parts, completed with those of ``other``."""
        return RedisUrl(
            servers=self.servers,
            tls=self.tls or other.tls,
            master=self.master,
            database=other.database if self.database is None else self.database,
            username=self.username or other.username,
            password=self.password or other.password,
        )

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Read a URL.

        Raises:
            ValueError: the URL is invalid. The text does not quote it, as it may have a password.
        """
        parts = _SHAPE.fullmatch(url)
        if parts is None:
            raise ValueError(_FORMS)
        by_sentinel = parts["scheme"].endswith("+sentinel")
        servers = tuple(
            _server(text, _SENTINEL_PORT if by_sentinel else _PORT)
            for text in parts["servers"].split(",")
        )
        path = [unquote(part) for part in (parts["path"] or "").split("/")[1:]]
        path = path if any(path) else []
        master = path.pop(0) if by_sentinel and path else None
        if by_sentinel and not master:
            raise ValueError("name the primary after the sentinels: redis+sentinel://host1/name")
        if len(path) > 1 or (path and not path[0].isdecimal()):
            raise ValueError("the database at its end is not a whole number")
        user, password = parts["user"], parts["password"]
        return cls(
            servers=servers,
            tls=parts["scheme"].startswith("rediss"),
            master=master,
            database=int(path[0]) if path else None,
            username=unquote(user) if user else None,
            password=unquote(password) if password else None,
        )


def masked_url(url: str) -> str:
    """Return a URL without its password, as text for messages; ``***`` if the URL is invalid."""
    parts = _SHAPE.fullmatch(url)
    if parts is None:
        return "***"
    user = parts["user"] or ""
    if parts["password"]:
        user += ":***"
    return f"{parts['scheme']}://{user and user + '@'}{parts['servers']}{parts['path'] or ''}"


def _server(text: str, port: int) -> tuple[str, int]:
    parts = _SERVER.fullmatch(text)
    if parts is None:
        raise ValueError(_FORMS)
    number = int(parts["port"]) if parts["port"] else port
    if not 1 <= number <= _LAST_PORT:
        raise ValueError(f"a port is from 1 to {_LAST_PORT}")
    return parts["host"].strip("[]"), number
