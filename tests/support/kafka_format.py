"""Formats data folders of Kafka without Kafka's own tool, whose JVM takes a second for each."""

from __future__ import annotations

import base64
import tempfile
import uuid
from pathlib import Path

from compose.local.kafka import KafkaServer

__all__ = ["format_data", "new_id"]

_CHECKPOINT = "bootstrap.checkpoint"
_made: dict[str, bytes] = {}


async def format_data(folder: Path, *, node_id: int = 1, cluster_id: str) -> None:
    """Format the data folder of a node whose listeners need no password."""
    log = folder / "log"
    log.mkdir(parents=True)
    (log / _CHECKPOINT).write_bytes(await _checkpoint())
    ids = {"node.id": node_id, "directory.id": new_id(), "cluster.id": cluster_id, "version": 1}
    (log / "meta.properties").write_text("".join(f"{key}={id_}\n" for key, id_ in ids.items()))


def new_id() -> str:
    """Return a new id in Kafka's format."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


async def _checkpoint() -> bytes:
    """Return the record of feature levels that Kafka writes; it is the same for every node."""
    if _CHECKPOINT not in _made:
        with tempfile.TemporaryDirectory() as folder:
            server = KafkaServer(Path(folder) / "data")
            await server.initialize()
            _made[_CHECKPOINT] = (server.data_dir / "log" / _CHECKPOINT).read_bytes()
    return _made[_CHECKPOINT]
