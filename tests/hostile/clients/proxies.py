"""nginx and HAProxy in front of the service, as ``docs/proxies.md`` configures them."""

from __future__ import annotations

import re
from pathlib import Path

from lab.harness.proxy import ProxyKind, ProxyServer, nginx_with

__all__ = ["Proxy", "documented"]

_DOCUMENT = Path(__file__).parents[3] / "docs" / "proxies.md"


def documented(kind: str) -> str:
    """Return the configuration that the page shows for ``kind``: nginx or haproxy."""
    (block,) = re.findall(rf"```{kind}\n(.*?)```", _DOCUMENT.read_text("utf-8"), re.DOTALL)
    return block


class Proxy(ProxyServer):
    """One proxy with a configuration of the page, its ports replaced by ours.

    ``kind`` is nginx or haproxy.
    """

    def __init__(self, kind: str, folder: Path, configuration: str, *upstreams: int) -> None:
        super().__init__(ProxyKind(kind), folder, upstreams)
        self._ports = upstreams
        self._text = configuration

    @property
    def log(self) -> str:
        """What it has logged."""
        return self.log_path.read_text(errors="replace")

    def configuration(self) -> str:
        """Return the text of its configuration."""
        text = self._text.replace("8080", str(self.port))
        if len(self._ports) == 1:
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if "127.0.0.1:3001" not in line)
        # In one pass: a port of ours may begin with 3001.
        ports = dict(zip(("3000", "3001"), self._ports, strict=False))
        text = re.sub(
            r"(127\.0\.0\.1):(300[01])\b", lambda found: f"{found[1]}:{ports[found[2]]}", text
        )
        return nginx_with(text) if self.kind is ProxyKind.NGINX else text
