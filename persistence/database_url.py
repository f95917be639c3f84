"""The address of PostgreSQL: what it may say, and the servers that it names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

__all__ = ["check_url", "has_password", "parts_of", "place_of", "urls_of", "with_password"]

_SCHEMES = ("postgresql://", "postgres://")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s'\"]*)(?::(?P<port>\d{1,5})?)?")
_LAST_PORT = 65535
_HOSTS = re.compile(r"(?<=://)[^/?#]*")
_LINE_ENDS = str.maketrans("", "", "\t\r\n")  # left out, as urlsplit does (WHATWG's URL)
_HALF_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE = (
    "write postgresql://user:password@host:5432/name, and encode other characters of a user or "
    "password: %40 for @, %2F for /, %3A for :, %3F for ?, %23 for #, %25 for %"
)
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
# Options of libpq or of an ORM. The driver would send them as settings of the server, which refuses
# them.
_NOT_OURS = {
    "channel_binding", "client_encoding", "connect_timeout", "fallback_application_name",
    "gssdelegation", "gssencmode", "hostaddr", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "load_balance_hosts", "max_protocol_version", "min_protocol_version",
    "replication", "require_auth", "requirepeer", "requiressl", "sslcertmode", "sslcompression",
    "sslcrldir", "sslsni", "tcp_user_timeout", "connection_limit", "pgbouncer", "pool_size",
    "pool_timeout", "schema", "socket_timeout", "sslaccept", "statement_cache_size",
}  # fmt: skip
_INSTEAD = {
    "channel_binding": "sslmode=verify-full proves the server instead",
    "connect_timeout": "each attempt has five seconds",
    "schema": "set search_path for the user: ALTER ROLE ... SET search_path",
    "pgbouncer": "a pooler is noticed by itself",
    "statement_cache_size": "a pooler is noticed by itself",
}


def check_url(url: str) -> None:
    """Check that connections can be tried with ``url``.

    Raises:
        ValueError: they can't. The text does not quote it, as it may hold a password.
    """
    if url.startswith(("'", '"')):
        raise ValueError("leave out the quotes around it: docker --env-file and others keep them")
    if not url.startswith(_SCHEMES):
        raise ValueError("must start with postgresql://")
    try:
        parts = parts_of(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError(_ENCODE) from None
    user, _, hosts = parts.netloc.rpartition("@")
    if "@" in user + parts.path or parts.fragment or _HALF_ENCODED.search(user):
        raise ValueError(_ENCODE)
    for host in hosts.split(","):
        named = _HOST.fullmatch(host)
        if named is None or int(named["port"] or 1) not in range(1, _LAST_PORT + 1):
            raise ValueError(_ENCODE)
    _check_options(options)


def _check_options(options: dict[str, str]) -> None:
    for name in options:
        if name in _NOT_OURS:
            why = f"; {_INSTEAD[name]}" if name in _INSTEAD else ""
            raise ValueError(f"its option {name} is not supported: leave it out{why}")
    for name in _FILES:
        if (path := options.get(name)) and not Path(path).is_file():
            system = "; name the system's own, such as /etc/ssl/certs/ca-certificates.crt"
            more = system if path == "system" else ""
            raise ValueError(f"its option {name} names {path}, and there is no such file{more}")


def parts_of(url: str) -> SplitResult:
    """Return the parts of an address that may name several servers.

    From Python 3.11.12, 3.12.9 and 3.13.2 on, ``urlsplit`` refuses several hosts of which one is an
    IPv6 address (CVE-2025-0938).
    """
    url = url.translate(_LINE_ENDS)
    hosts = _HOSTS.search(url)
    if hosts is None:
        return urlsplit(url)
    rest = url[: hosts.start()] + url[hosts.end() :]
    return urlsplit(rest)._replace(netloc=hosts[0])


def urls_of(url: str) -> list[str]:
    """Return one address for each server that ``url`` names, in its order."""
    parts = parts_of(url)
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


def place_of(url: str) -> str:
    """Return host and port of an address, without its password."""
    parts = parts_of(url)
    query = dict(parse_qsl(parts.query))
    return unquote(parts.netloc.rpartition("@")[2]) or f"{query.get('host')}:{query.get('port')}"


def has_password(url: str) -> bool:
    """Return whether an address has a password, or names libpq's own file of passwords."""
    parts = parts_of(url)
    options = dict(parse_qsl(parts.query))
    return ":" in parts.netloc.rpartition("@")[0] or not options.keys().isdisjoint(
        ("password", "passfile")
    )


def with_password(url: str, password: str) -> str:
    """Return an address that has no password, with ``password`` as its option."""
    address, _, options = url.partition("?")
    return f"{address}?{options}{'&' if options else ''}{urlencode({'password': password})}"
