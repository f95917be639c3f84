"""Look up a collector's name without waiting for the answer."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import urlsplit

__all__ = ["LookUp", "collector_host"]


def collector_host(endpoint: str | None) -> str:
    """Return the host of ``endpoint``, a URL or ``host:port``; exporters default to localhost."""
    named = endpoint or "localhost"
    return urlsplit(named if "://" in named else f"//{named}").hostname or "localhost"


class LookUp:
    """One look-up of ``host``, in a thread: a resolver may take ten seconds to fail."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._began = time.monotonic()
        self._found = False
        self.ended = threading.Event()
        """Set once it has failed or succeeded."""
        threading.Thread(target=self._ask, name="traces-look-up", daemon=True).start()

    def is_without_answer(self, after: float) -> bool:
        """Return whether ``after`` seconds have passed and no address is known."""
        return not self._found and time.monotonic() - self._began > after

    def _ask(self) -> None:
        try:
            socket.getaddrinfo(self._host, None)
        except OSError:
            pass
        else:
            self._found = True
        self.ended.set()
