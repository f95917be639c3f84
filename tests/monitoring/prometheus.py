"""A real Prometheus of the test's own, with the committed rules in a hurry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from compose.local.ports import free_port
from compose.local.server import LocalServer
from tests.monitoring.rules import ALERTS, ROOT, hurried

__all__ = ["Prometheus"]


class Prometheus(LocalServer):
    """Finds its targets as ``prometheus.host.yml`` does: by asking any process for all."""

    def __init__(self, program: str, folder: Path, asked: Sequence[str]) -> None:
        super().__init__("prometheus", folder / "data", port=free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self._program = program
        self._folder = folder
        self._asked = asked
        self._client = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=10)

    async def stop(self) -> None:
        """Stop it."""
        await self._client.aclose()
        await super().stop()

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        data = await self._get("query", query=expression)
        result: list[dict[str, Any]] = data["result"]
        return result

    async def value(self, expression: str) -> float | None:
        """Return the one value of a query, ``None`` where there is none."""
        found = await self.ask(expression)
        assert len(found) <= 1, f"{expression} has {len(found)} values"
        return float(found[0]["value"][1]) if found else None

    async def exemplars(self, expression: str) -> list[dict[str, str]]:
        """Return the labels of every exemplar kept for a query's series."""
        found = await self._get("query_exemplars", query=expression, start="0", end="9999999999")
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    async def firing(self) -> dict[str, dict[str, Any]]:
        """Return the alerts that fire, by name (one of each)."""
        alerts = (await self._get("alerts"))["alerts"]
        return {
            alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"
        }

    async def targets(self) -> dict[str, str]:
        """Return the health of every target by its address."""
        targets = (await self._get("targets", state="active"))["activeTargets"]
        return {target["labels"]["instance"]: target["health"] for target in targets}

    async def page(self, url: str) -> str:
        """Return a page that it serves itself."""
        return (await self._client.get(url)).raise_for_status().text

    async def _get(self, what: str, **parameters: str) -> Any:
        answer = await self._client.get(f"/api/v1/{what}", params=parameters)
        body = json.loads(answer.text)
        assert body["status"] == "success", f"{parameters}: {body.get('error')}"
        return body["data"]

    def _configuration(self) -> dict[str, Any]:
        """Return the committed configuration for a host, with its times and places changed."""
        path = ROOT / "compose" / "docker" / "prometheus" / "prometheus.host.yml"
        made: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
        made["global"] |= {
            "scrape_interval": "1s",
            "evaluation_interval": "1s",
            "external_labels": {
                "runbooks": f"{self.url}/user/RUNBOOKS.md",
                "dashboards": "http://localhost:3001/d",
            },
        }
        made["rule_files"] = [path.name for path in ALERTS]
        (job,) = made["scrape_configs"]
        assert job["job_name"] == "crossfade"
        job["http_sd_configs"] = [
            {"url": f"{url}/metrics/targets", "refresh_interval": "1s"} for url in self._asked
        ]
        return made

    def _prepare(self) -> None:
        (self._folder / "data").mkdir(parents=True)
        (self._folder / "assets").mkdir()
        (self._folder / "assets" / "RUNBOOKS.md").symlink_to(ROOT / "RUNBOOKS.md")
        for path in ALERTS:
            (self._folder / path.name).write_text(hurried(path.read_text("utf-8")))
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration()))

    def _command(self) -> list[str]:
        return [
            self._program,
            f"--config.file={self._folder}/prometheus.yml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.user-assets={self._folder}/assets",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]

    async def _is_ready(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False
