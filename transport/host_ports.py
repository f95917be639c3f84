"""Hosts and ports in settings, checked at start. Otherwise a wrong one is looked up for ever."""

from __future__ import annotations

import re

__all__ = ["host", "servers"]

_NAME = r"[^\s:/@,'\"\[\]]+"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?"
_HOST = re.compile(rf"{_NAME}|{_IPV6}|\[{_IPV6}\]")
_SERVER = re.compile(rf"(?:{_NAME}|\[{_IPV6}\])(?::(\d{{1,5}}))?")
_LAST_PORT = 65535


def host(text: str) -> str:
    """Return a host as sockets take it: an address of IPv6 without brackets.

    Raises:
        ValueError: it is none, with what to give.
    """
    if not _HOST.fullmatch(text):
        raise ValueError("give a name or an IP address alone: no quotes, no scheme, no port")
    return text.strip("[]")


def servers(text: str) -> str:
    """Return ``host:port,host:port`` without spaces and without an empty part.

    Raises:
        ValueError: a part is no server, with what to give.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = [_SERVER.fullmatch(part) for part in parts]
    if not parts or not all(it and int(it[1] or 1) in range(1, _LAST_PORT + 1) for it in found):
        raise ValueError("give host:9092,host:9092: no quotes, and no scheme before a host")
    return ",".join(parts)
