"""The PEM files of a client's TLS: read anew when others were put in their place.

A certificate lives for weeks, a process for months. A connection that was opened after the files
were replaced uses the new ones.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from transport.certificates import Certificate, certificate_in_file, certificate_of
from transport.errors import ConfigurationError

__all__ = ["certificates_of", "client_context"]

_log = structlog.get_logger(__name__)
_Stamps = list[tuple[int, int, int] | None]


class _ClientConnection(ssl.SSLObject):
    """A connection that tells its context the server's certificate."""

    context: _ClientContext

    def do_handshake(self) -> None:
        """Take part in the handshake; raises until that is over."""
        super().do_handshake()
        shown = self.getpeercert(binary_form=True)
        if shown is not None:
            self.context.shown[self.server_hostname or ""] = shown


class _ClientContext(ssl.SSLContext):
    """A context that looks at its files whenever a connection begins."""

    sslobject_class = _ClientConnection
    shown: dict[str, bytes]
    own: str | None
    files: Sequence[str]
    load: Callable[[ssl.SSLContext], None]
    seen: _Stamps

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection; asyncio and uvloop call this for each."""
        if (now := _stamps(self.files)) != self.seen:
            self.seen = now
            self._renew()
        return super().wrap_bio(*arguments, **options)

    def _renew(self) -> None:
        try:
            self.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # a half of them must not be used
            self.load(self)
        except ConfigurationError as error:
            _log.warning(
                "Files for TLS were replaced by others that can't be used", error=str(error)
            )
        else:
            _log.info("Files for TLS were replaced", files=list(self.files))


def client_context(
    authorities: str | None,
    own: Sequence[str | None],
    load_own: Callable[[ssl.SSLContext], None],
    *,
    field: str,
) -> ssl.SSLContext:
    """Return a context that checks a server's certificate and name, as Python's default does.

    Authorities that the file no longer has are trusted until the process ends.

    Args:
        authorities: A file of them; ``None`` for the system's.
        own: The files of our own certificate; the certificate is in the first.
        load_own: Reads them into a context.
        field: The setting that names the authorities.

    Raises:
        ConfigurationError: A file can't be used; also by ``load_own``.
    """

    def load(context: ssl.SSLContext) -> None:
        try:
            if authorities is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{field}={authorities} can't be used: {error}; name a PEM file that this user "
                "may read"
            ) from error
        load_own(context)

    context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    if keys := os.environ.get("SSLKEYLOGFILE"):
        context.keylog_filename = keys
    context.shown, context.own = {}, own[0]
    context.files = [path for path in (authorities, *own) if path]
    context.load, context.seen = load, _stamps(context.files)
    load(context)
    return context


def certificates_of(context: ssl.SSLContext | None, *, own: str) -> list[Certificate]:
    """Return the certificate that each server showed last, by its name, and our own.

    Args:
        context: One made by ``client_context``.
        own: The setting that names the file of our own.
    """
    if not isinstance(context, _ClientContext):
        return []
    found = [certificate_of(name, der) for name, der in context.shown.items()]
    if context.own is not None:
        found.append(certificate_in_file(own, context.own))
    return found


def _stamps(files: Sequence[str]) -> _Stamps:
    stamps: _Stamps = []
    for file in files:
        try:
            found = Path(file).stat()  # through the links that Kubernetes and certbot move
        except OSError:
            stamps.append(None)
        else:
            stamps.append((found.st_ino, found.st_size, found.st_mtime_ns))
    return stamps
