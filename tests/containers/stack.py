"""``compose/docker/compose.yml`` on an engine, with a project name and ports of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import yaml

from compose.local.ports import free_port
from tests.containers.engine import Engine
from tests.support.eventually import eventually

__all__ = ["LEFT_OUT", "Stack"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose" / "docker"
_MISSING = os.environ.get("CONTAINERS_WITHOUT", "").split()
_SERVICES = yaml.safe_load((FOLDER / "compose.yml").read_text())["services"]
LEFT_OUT = frozenset(name for name, service in _SERVICES.items() if service["image"] in _MISSING)
"""Services whose images could not be had."""

_PROJECT = "crossfade-tests"
_PORTS = ("PORT", "METRICS_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "TRACES_PORT")


class Stack:
    """The containers of one project. ``settings`` are given to Compose by every command."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.settings: dict[str, str] = {name: str(free_port()) for name in _PORTS}

    @property
    def api(self) -> str:
        """Return the address of the API."""
        return f"http://localhost:{self.settings['PORT']}"

    @property
    def prometheus(self) -> str:
        """Return the address of Prometheus."""
        return f"http://localhost:{self.settings['PROMETHEUS_PORT']}"

    @property
    def traces(self) -> str:
        """Return the address of the traces' pages."""
        return f"http://localhost:{self.settings['TRACES_PORT']}"

    def compose(self, *arguments: str, timeout: float = 300) -> str:
        """Run ``docker compose`` with ``arguments``; return what it wrote to standard output."""
        done = self.engine.docker(
            "compose", "-p", _PROJECT, "-f", str(FOLDER / "compose.yml"), *arguments,
            env=self.settings, timeout=timeout,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(
                f"docker compose {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def up(self, *options: str, profile: str | None = None) -> None:
        """Start every service (of ``profile`` too) but those left out, as they are built."""
        profiles = ("--profile", profile) if profile else ()
        services = self.compose(*profiles, "config", "--services").split()
        wanted = [service for service in services if service not in LEFT_OUT]
        self.compose(*profiles, "up", "--detach", "--no-build", *options, *wanted)

    def down(self, *options: str) -> None:
        """Remove the containers and the network."""
        self.compose("--profile", "kafka", "down", *options)

    def container(self, service: str) -> dict[str, Any]:
        """Return the engine's description of the one container of ``service``."""
        (name,) = self.compose("--profile", "kafka", "ps", "--all", "--quiet", service).split()
        (found,) = json.loads(self.engine.docker("inspect", name).stdout)
        assert isinstance(found, dict)
        return found

    def logs(self, service: str) -> str:
        """Return the output of the containers of ``service``."""
        return self.compose("--profile", "kafka", "logs", "--no-color", "--no-log-prefix", service)

    def events(self, service: str) -> list[dict[str, Any]]:
        """Return the lines of its log; Compose puts control characters before some."""
        found = (line[line.find("{") :] for line in self.logs(service).splitlines())
        return [json.loads(line) for line in found if line.startswith("{")]

    def rows(self, query: str) -> list[str]:
        """Return the lines that ``query`` gives in the database."""
        command = ("psql", "-U", "crossfade", "-d", "crossfade", "-h", "/var/run/postgresql")
        return self.compose("exec", "-T", "database", *command, "-tAc", query).split()

    async def status(self, path: str) -> int:
        """Return the API's status for ``path``; 0 where nothing answers."""
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                return (await client.get(self.api + path)).status_code
        except httpx.TransportError:
            return 0

    async def ready(self) -> None:
        """Return once the service says that it is ready."""

        async def is_ready() -> bool:
            return await self.status("/readyz") == 200

        await eventually(is_ready)

    async def get(self, url: str) -> Any:
        """Return the JSON at ``url``."""
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            answer = await client.get(url)
            assert answer.status_code == 200, (url, answer.text)
            return answer.json()

    def guides_curl(self) -> tuple[int, dict[str, Any]]:
        """Run the curl of the deployment guide against this service; return status and answer."""
        guide = (ROOT / "docs" / "deployment_guide.md").read_text()
        found = re.search(r"^curl -X POST .*?}'", guide, re.MULTILINE | re.DOTALL)
        assert found is not None
        command = found[0].replace("http://localhost:3000", self.api)
        done = subprocess.run(
            ["bash", "-c", f"{command} --silent --write-out '\\n%{{http_code}}'"],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)
