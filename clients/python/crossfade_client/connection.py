"""The use of httpx that both clients share: the base URL, headers, and translated errors."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import httpx

from crossfade_client.exchange import Call, Failure
from crossfade_client.reply import Reply

__all__ = ["LIMITS", "Connection", "HttpClient", "failure", "opened", "reply_of"]

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)
# httpx's mounts: a proxy in the environment is not used for what only this machine can reach.
_DIRECT: Mapping[str, None] = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
_DEFAULT_URL = "http://localhost:3000"
_BLANK = re.compile(r"\s")
# Characters that no host may hold (WHATWG URL, "forbidden domain code point"); httpx would escape
# some of them.
_NO_HOST = re.compile(r"[\s\0-\x20\x7f#%/<>?@\[\\\]^|]|^$")


@dataclass(frozen=True, slots=True)
class Connection:
    """The service's base URL, and the headers and the connect timeout of every request."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    connect_timeout: float

    @classmethod
    def of(
        cls, base_url: str | None, api_key: str | None, headers: Mapping[str, str], connect: float
    ) -> Connection:
        """Return a connection. The URL and the key default to the environment's.

        Args:
            base_url: By default CROSSFADE_URL, else http://localhost:3000.
            api_key: By default CROSSFADE_API_KEY.
            headers: Further headers of every request.
            connect: The connect timeout in seconds.

        Raises:
            ValueError: The URL or the key is not valid.
        """
        url = base_url or os.environ.get("CROSSFADE_URL") or _DEFAULT_URL
        _check(url)
        key = api_key if api_key is not None else os.environ.get("CROSSFADE_API_KEY")
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("the API key holds something other than printable ASCII characters")
        own = {"Accept": "application/json", "User-Agent": f"crossfade-python/{_version()}"}
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        return cls(url.rstrip("/"), {**own, **authorization, **headers}, connect)

    def request(
        self, http: httpx.Client | httpx.AsyncClient, call: Call, timeout: float
    ) -> httpx.Request:
        """Return a call as an httpx request; ``timeout`` is in seconds."""
        query = f"?{urlencode(call.query)}" if call.query else ""
        return http.build_request(
            call.method,
            f"{self.base_url}{call.path}{query}",
            content=call.body,
            headers={**self.headers, **call.headers},
            timeout=httpx.Timeout(timeout, connect=min(self.connect_timeout, timeout)),
        )


def _check(url: str) -> None:
    """Check a base URL.

    Raises:
        ValueError: It is not an http or https URL, or has a query or a fragment.
    """
    try:
        parts = httpx.URL(url)
        good = (
            parts.scheme in {"http", "https"}
            and not _NO_HOST.search(parts.host)
            and not _BLANK.search(url)
        )
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good:
        raise ValueError(f"base URL {url!r}: give one such as {_DEFAULT_URL}")
    if parts.query or parts.fragment:
        raise ValueError(f"base URL {url!r}: leave out what follows the path")


class HttpClient(Generic[C]):
    """The httpx client of one of our clients. Each process has one of its own.

    A forked process has its parent's open connections. If both use one, a process may read the
    answer to a request of the other, and take its own message for accepted.

    Args:
        kind: The class of the httpx client.
        limits: Its limits of connections.
        given: A client of the caller's, to be used instead. The caller closes it.

    Raises:
        ValueError: A proxy variable of the environment is not valid, or needs a package.
    """

    def __init__(self, kind: type[C], limits: httpx.Limits, given: C | None) -> None:
        self._kind: type[C] = kind
        self._limits = limits
        self.is_given = given is not None
        """Whether the client is the caller's."""
        self.latest: C = given or opened(kind, limits)
        """The client that was used last, or is used first."""
        # The process of ``latest``. Ours belongs to the one that made it, even if it was not used:
        # gunicorn's gevent worker replaces Python's locks after the fork, and one that is older
        # stops all its greenlets. The caller's belongs to the first that uses it.
        self._process: int | None = None if self.is_given else os.getpid()

    def here(self) -> C:
        """Return the client for a request of this process.

        Raises:
            RuntimeError: The caller's client was used in another process.
        """
        process = os.getpid()
        if self._process is None:
            self._process = process
        elif self._process != process:
            if self.is_given:
                raise RuntimeError(
                    "the httpx client (http) was used before this process was forked: two "
                    "processes can't share its connections; make a new one after the fork"
                )
            # The old one is not closed: a thread that the fork left behind may have its lock.
            self.latest = opened(self._kind, self._limits)
            self._process = process
        return self.latest


def opened(kind: type[C], limits: httpx.Limits, **options: Any) -> C:
    """Return a new httpx client, with the proxies of the environment.

    Raises:
        ValueError: A variable that names them is not valid, or needs a package.
    """
    try:
        return kind(limits=limits, mounts=_DIRECT, **options)
    except (httpx.InvalidURL, ImportError, ValueError) as error:
        raise ValueError(
            "a proxy variable of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) "
            f"can't be used: {str(error).rstrip('.')}; correct it or unset it "
            "(in NO_PROXY, ::1 has no brackets)"
        ) from error


def reply_of(response: httpx.Response, body: bytes) -> Reply:
    """Return an httpx response with this body as a reply."""
    moved = bool(response.history)
    return Reply(response.status_code, dict(response.headers), body, redirected=moved)


def failure(error: httpx.RequestError) -> Failure:
    """Translate an httpx error.

    Raises:
        httpx.RequestError: The request itself is invalid, so that no retry can help.
    """
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        raise error
    never_sent = httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError
    return Failure(error, sent=not isinstance(error, never_sent), lasting=_distrusted(error))


def _distrusted(error: BaseException | None) -> bool:
    """Return whether the reason of the error is an untrusted certificate of the server."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _version() -> str:
    try:
        return version("crossfade-client")
    except PackageNotFoundError:
        return "unknown"
