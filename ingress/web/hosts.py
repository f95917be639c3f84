"""The check of ``Host``, which protects a service without API keys from DNS rebinding.

Another site can let its own name point at this machine. To the browser, that site's scripts then
have the same origin as this service; only the ``Host`` that the browser sends shows the difference.
With API keys this matters little, because such a page has no key. Without keys every client may do
everything, so the host name is checked on every route.

An IP address is safe: a page under an IP address was served from it, without a resolver. So probes
and scrapers that use a pod's address need no setting. ``localhost`` and names below it stand for
this machine in every browser (RFC 6761, section 6.3).
"""

from __future__ import annotations

import re
from ipaddress import ip_address

import structlog

from ingress.schema.problems import MISDIRECTED, Problem
from ingress.settings import IngressSettings
from ingress.web.headers import Headers

__all__ = ["Hosts"]

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::[0-9]*)?")
_REMEMBERED = 256
_ANY = "*"
_log = structlog.get_logger(__name__)


class Hosts:
    """Checks requests against the known host names.

    Args:
        settings: Has the names, and the address to listen on.
        guarded: Whether names are checked: false if every request needs a key.
    """

    def __init__(self, settings: IngressSettings, *, guarded: bool) -> None:
        names = settings.allowed_hosts
        self._names = {name.lower() for name in (*names, settings.host)}
        self.guarded = guarded and _ANY not in names
        # HTTP/1.0 allows requests without a Host, and no browser speaks HTTP/1.0.
        self._seen: set[bytes | None] = {None}
        if guarded and not self.guarded:
            _log.warning(
                "INGRESS_ALLOWED_HOSTS=* and no API keys: any page that a browser on this network "
                "shows can read and send messages here",
                remedy="name the hosts that this service is asked for under, or configure API_KEYS",
            )
        elif self.guarded and settings.api_keys_waived and not names:
            _log.warning(
                "API_KEYS_WAIVED=true and INGRESS_ALLOWED_HOSTS is empty: requests are answered "
                "under IP addresses and localhost only",
                remedy="set INGRESS_ALLOWED_HOSTS to the names that clients and proxies send",
            )

    @property
    def remembered(self) -> int:
        """The number of ``Host`` values that are remembered as known."""
        return len(self._seen)

    def check(self, headers: Headers) -> None:
        """Refuse a request for an unknown host name, if names are guarded.

        Raises:
            Problem: The request's ``Host`` is unknown (421).
        """
        if self.guarded and headers.get(b"host") not in self._seen:
            self._judge(headers[b"host"])

    def _judge(self, host: bytes) -> None:
        match = _HOST.fullmatch(host)
        name = match[1].decode("latin-1").lower() if match else ""
        if not self._is_ours(name):
            shown = host[:100].decode("latin-1")
            raise Problem(
                MISDIRECTED,
                f"{shown!r} is not among the names that this service answers to while it asks for "
                "no API keys. Add it to INGRESS_ALLOWED_HOSTS, or configure API_KEYS.",
            )
        if len(self._seen) < _REMEMBERED:
            self._seen.add(host)

    def _is_ours(self, name: str) -> bool:
        name = name.removesuffix(".")
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True
