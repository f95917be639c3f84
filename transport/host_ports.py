"""Checks of hosts and ports in settings, so that a wrong one fails the start at once."""

from __future__ import annotations

import re

__all__ = ["host", "servers"]

_NAME = r"[^\s:/@,'\"\[\]]+"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?"
_HOST = re.compile(rf"{_NAME}|{_IPV6}|\[{_IPV6}\]")
_SERVER = re.compile(rf"(?:{_NAME}|\[{_IPV6}\])(?::(\d{{1,5}}))?")
_LAST_PORT = 65535


def host(text: str) -> str:
    """Return a host in the form for sockets: an IPv6 address without brackets.

    Raises:
        ValueError: ``text`` is no host; the text says what to give.
    """
    if not _HOST.fullmatch(text):
        raise ValueError("give a name or an IP address alone: no quotes, no scheme, no port")
    return text.strip("[]")


def servers(text: str) -> str:
    """Return ``host:port,host:port`` without spaces and without an empty part.

    Raises:
        ValueError: a part is no server; the text says what to give.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_SERVER.fullmatch(part) for part in parts]
    if not parts or not all(it and int(it[1] or 1) in range(1, _LAST_PORT + 1) for it in found):
        raise ValueError("give host:9092,host:9092: no quotes, and no scheme before a host")
    return ",".join(parts)
