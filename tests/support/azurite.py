"""Azurite: Azure's own server of blobs for tests, from npm, on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from email.utils import formatdate
from pathlib import Path

import httpx

from compose.local.kafka_jars import cache_dir
from compose.local.server import LocalServer
from tests.support.npm import NotFetchedError, fetched_packages
from tests.support.requirements import absent, program

__all__ = ["AzuriteServer"]

_PACKAGES = ("azurite@3.35.0",)
_VERSION = "2021-12-02"  # of Azure's protocol
_CONTAINER = "crossfade"
_CREATED, _EXISTS = 201, 409


class AzuriteServer(LocalServer):
    """One server with one account, whose key is made for this process, and one container.

    Skips the test where it can't be had.
    """

    def __init__(self, data_dir: Path) -> None:
        self.account = "crossfade"
        self._key = base64.b64encode(secrets.token_bytes(32)).decode()
        try:
            self._program = fetched_packages(cache_dir(), "azurite", _PACKAGES) / "azurite-blob"
        except NotFetchedError as error:
            absent(f"no Azurite: {error}")
        self._node = program("node", package="nodejs")
        environment = {"AZURITE_ACCOUNTS": f"{self.account}:{self._key}"}
        super().__init__("azurite", data_dir, environment=environment)

    def settings(self, prefix: str) -> dict[str, str]:
        """Return the settings for payloads on this server, below ``prefix``, by variable name."""
        return {
            "PAYLOAD_STORE": f"az://{_CONTAINER}/{prefix}",
            "AZURE_STORAGE_ACCOUNT_NAME": self.account,
            "AZURE_STORAGE_ACCOUNT_KEY": self._key,
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": f"http://{self.host}:{self.port}",
        }

    def _command(self) -> list[str]:
        return [
            self._node, str(self._program), "--blobHost", self.host, "--blobPort", str(self.port),
            "--location", str(self.data_dir), "--disableTelemetry", "--skipApiVersionCheck",
            "--silent",
        ]  # fmt: skip

    def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    async def _is_ready(self) -> bool:
        """Return whether the server has the container. It makes it for our key only."""
        path = f"/{self.account}/{_CONTAINER}"
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        # "Authorize with Shared Key": eleven standard headers, all empty, then those of Azure.
        signed = "\n".join(
            [
                "PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items()),
                f"/{self.account}{path}", "restype:container",
            ]
        )  # fmt: skip
        mac = hmac.digest(base64.b64decode(self._key), signed.encode(), hashlib.sha256)
        headers["Authorization"] = f"SharedKey {self.account}:{base64.b64encode(mac).decode()}"
        url = f"http://{self.host}:{self.port}{path}?restype=container"
        async with httpx.AsyncClient() as client:
            try:
                answer = await client.put(url, headers=headers)
            except httpx.TransportError:
                return False
        return answer.status_code in {_CREATED, _EXISTS}
