"""Several nodes of a real Kafka, for tests that stop some of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from compose.local.kafka import KafkaServer, new_id
from compose.local.ports import free_port
from compose.local.server import all_started

__all__ = ["KafkaCluster"]


class KafkaCluster:
    """Several nodes on one machine.

    Args:
        data_dir: The folder with the data of all nodes.
        nodes: Number of nodes.
        config: Adds to or replaces the defaults of each node.
    """

    def __init__(
        self, data_dir: Path, *, nodes: int = 3, config: Mapping[str, str] | None = None
    ) -> None:
        voters = {node: free_port() for node in range(1, nodes + 1)}
        cluster_id = new_id()
        self.nodes: Sequence[KafkaServer] = [
            KafkaServer(
                data_dir / f"node-{node}",
                node_id=node,
                cluster_id=cluster_id,
                voters=voters,
                config=config,
                heap_mb=192,
            )
            for node in voters
        ]

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, for ``bootstrap.servers``."""
        return ",".join(node.bootstrap for node in self.nodes)

    def node(self, node_id: int) -> KafkaServer:
        """Return the node with this id."""
        return self.nodes[node_id - 1]

    async def start(self) -> None:
        """Start all nodes; return once each serves."""
        await all_started(node.start() for node in self.nodes)

    async def kill(self) -> None:
        """Send SIGKILL to all nodes, one after the other."""
        for node in self.nodes:
            await node.kill()

    async def stop(self) -> None:
        """Stop all nodes at once: one by one, the last would wait for a controller that is gone."""
        async with asyncio.TaskGroup() as tasks:
            for node in self.nodes:
                tasks.create_task(node.stop())
