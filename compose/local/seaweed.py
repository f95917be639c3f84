"""A real S3 server on loopback: SeaweedFS, for payloads.

The server accepts one key, which is made for this process, and refuses unsigned requests. By that
it is told apart from another program on the same port.

It does not fsync objects: they survive the end of its process, and may be lost in a power cut. It
is for tests and for trying S3; payloads in a folder are as durable as the log.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import signal
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import S3Store

from compose.local.binaries import Binary, find_seaweed
from compose.local.ports import free_port
from compose.local.server import LocalServer

__all__ = ["SeaweedServer"]

_REGION = "us-east-1"
_QUICK: tuple[str, ...] = (
    "-master.telemetry=false",  # by default it reports to its makers
    "-master.electionTimeout=1s",
    "-master.volumeSizeLimitMB=1024",
    "-volume.max=0",  # as many as the disk has room for
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)
# Lets requests ask for encryption (PAYLOAD_SSE). It protects nothing: this key is public.
_ENVIRONMENT = {"WEED_S3_SSE_KEY": "crossfade"}
_LOGGED = re.compile(r"[IWEF]\d{4} ")  # a log line; the lines of a stack trace don't match
_PARTS = ("master", "volume", "filer", "s3")
_READY = ".ready"
_PATIENCE = timedelta(seconds=5)  # for one answer while starting


class SeaweedServer(LocalServer):
    """One SeaweedFS server on ``data_dir``, with one bucket.

    Args:
        data_dir: The data.
        port: The port that its S3 API must have.
        near: The preferred port; if it is taken, the server gets another.
        bucket: The bucket; made if it is missing.
        binary: By default the first one found.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        near: int | None = None,
        bucket: str = "crossfade",
        binary: Binary | None = None,
    ) -> None:
        self.binary = binary or find_seaweed()
        self.bucket = bucket
        self.access_key = secrets.token_hex(8)
        self.secret_key = secrets.token_urlsafe(24)
        super().__init__(
            "seaweedfs",
            data_dir,
            port=port,
            near=near,
            # All its data is in files, so SIGKILL loses none. SIGTERM takes 15 s: the server waits
            # for its own clients.
            stop_signal=signal.SIGKILL,
            environment=_ENVIRONMENT,
            folder=data_dir.resolve(),
        )

    @property
    def url(self) -> str:
        """The URL of its S3 API."""
        return f"http://{self.host}:{self.port}"

    def settings(self, prefix: str) -> dict[str, str]:
        """Return the settings for payloads on this server, below ``prefix``, by variable name."""
        return {
            "PAYLOAD_STORE": f"s3://{self.bucket}/{prefix}",
            "PAYLOAD_ENDPOINT_URL": self.url,
            "PAYLOAD_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def _choose_ports(self, port: int | None) -> None:
        super()._choose_ports(port)
        # Without an explicit gRPC port, a part takes its own port plus 10,000.
        self._ports = {
            f"{part}.port{kind}": free_port() for part in _PARTS for kind in ("", ".grpc")
        } | {"s3.port": self.port}

    async def stop(self) -> None:
        """Stop the server, and remove the sockets that it makes outside its data folder."""
        await super().stop()
        await asyncio.to_thread(self._remove_sockets)

    def _remove_sockets(self) -> None:
        for part in _PARTS:
            name = f"seaweedfs-{part}-grpc-{self._ports[f'{part}.port.grpc']}.sock"
            Path("/tmp", name).unlink(missing_ok=True)  # noqa: S108 - its own choice

    def _prepare(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = {
            "name": "crossfade",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin"],
        }
        self._config_path.touch(mode=0o600)
        self._config_path.write_text(json.dumps({"identities": [identity]}))

    @property
    def _config_path(self) -> Path:
        return self.data_dir / "s3.json"

    def _command(self) -> list[str]:
        return [
            str(self.binary.path), "server", "-filer", "-s3", f"-dir={self.data_dir}",
            f"-ip={self.host}", f"-ip.bind={self.host}", f"-s3.config={self._config_path}",
            # Socket paths must be short, so they are relative to the working directory (data_dir).
            "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock",
            *_QUICK,
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]  # fmt: skip

    def _tells(self, line: str) -> bool:
        return _LOGGED.match(line) is not None

    async def _is_ready(self) -> bool:
        """Return whether the server serves and stores objects, for our key only.

        The test reads before it writes: the server accepts new objects before it finds its old
        ones. The first write makes the bucket.
        """
        try:
            with suppress(FileNotFoundError):  # obstore's error for a 404
                await (await self.store().get_async(_READY)).bytes_async()
            await self.store().put_async(_READY, b"ready")
        except BaseError:
            return False
        try:
            await self.store(signed=False).head_async(_READY)
        except BaseError:
            return True
        return False

    def store(self, *, signed: bool = True) -> S3Store:
        """Return a client of the bucket that does not retry; unsigned with ``signed=False``."""
        return S3Store(
            self.bucket,
            endpoint=self.url,
            region=_REGION,
            access_key_id=self.access_key,
            secret_access_key=self.secret_key,
            skip_signature=not signed,
            client_options={"allow_http": True, "timeout": _PATIENCE},
            retry_config={"max_retries": 0, "retry_timeout": _PATIENCE},
        )
