"""Formats data folders of Kafka without Kafka's own tool, whose JVM takes a second for each."""

from __future__ import annotations

import base64
import tempfile
import uuid
from pathlib import Path

from compose.local.kafka import KafkaServer

__all__ = ["format_data", "new_id"]

_IDS = "meta.properties"
_made: dict[str, bytes] = {}


async def format_data(folder: Path, *, node_id: int = 1, cluster_id: str) -> None:
    """Format the data folder of a node whose listeners need no password."""
    log = folder / "log"
    log.mkdir(parents=True)
    for name, content in (await _files()).items():
        (log / name).parent.mkdir(exist_ok=True)
        (log / name).write_bytes(content)
    ids = {"node.id": node_id, "directory.id": new_id(), "cluster.id": cluster_id, "version": 1}
    (log / _IDS).write_text("".join(f"{key}={id_}\n" for key, id_ in ids.items()))


def new_id() -> str:
    """Return a new id in Kafka's format."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


async def _files() -> dict[str, bytes]:
    """Return what Kafka writes beside the ids: the record of feature levels, for every node.

    Up to 4.3 it is ``bootstrap.checkpoint``. From 4.4 on it is a snapshot of the metadata.
    """
    if not _made:
        with tempfile.TemporaryDirectory() as folder:
            server = KafkaServer(Path(folder) / "data")
            await server.initialize()
            log = server.data_dir / "log"
            files = (path for path in log.rglob("*") if path.is_file() and path.name != _IDS)
            _made.update({str(path.relative_to(log)): path.read_bytes() for path in files})
    return _made
